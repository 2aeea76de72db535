"""What a method states once stands in every list of the pack; a broken one hides no other."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import restoration
from restoration import registry
from restoration.common.state_dict import UnknownWeightsError

ROOT = Path(restoration.__path__[0])
TOY = """
from restoration.common.degradation import FirstOrder
from restoration.common.method import Method, WeightFile
from restoration.common.prompts import PromptStyle
from restoration.common.sampling import pure_noise, spaced_ddpm
from restoration.common.schedule import Schedule
from restoration.common.state_dict import Signature

METHOD = Method(
    name="toy",
    title="Toy",
    files=(WeightFile("toy.pth", "https://example.org/toy.pth", "restoration", 2_500_000, "MIT"),),
    signatures=(Signature(("toy_layer.",), "a toy network"),),
    schedules=(Schedule("toy_steps", lambda steps: list(range(999, 999 - steps, -1))),),
    samplers={"toy_sampler": spaced_ddpm},
    starts={"toy_start": pure_noise},
    prompts={"toy_words": PromptStyle(added="toy")},
    presets={"toy_damage": FirstOrder((1, 2), (1, 2), (0, 1), (90, 100))},
)
"""
VIEWS = {
    "files": "toy.pth",
    "schedules": "toy_steps",
    "samplers": "toy_sampler",
    "starts": "toy_start",
    "prompts": "toy_words",
    "presets": "toy_damage",
}


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Adds a method's folder, as a contributor does: the folder, and one line in the registry."""
    added = []

    def add(name: str, source: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)
        monkeypatch.setattr(restoration, "__path__", [*restoration.__path__, str(tmp_path)])
        monkeypatch.setattr(registry, "METHODS", [*registry.METHODS, name])
        added.append(f"restoration.{name}")
        registry._method.cache_clear()

    yield add
    for name in added:
        sys.modules.pop(name, None)
    registry._method.cache_clear()


@pytest.mark.parametrize(("view", "name"), VIEWS.items())
def test_a_new_method_stands_in_every_view(view: str, name: str, add) -> None:
    before = dict(getattr(registry, view)())
    add("toy", TOY)
    after = getattr(registry, view)()
    assert name not in before and {**before, name: after[name]} == after


def test_the_doctor_and_the_loaders_know_its_files_and_its_weights(add) -> None:
    from restoration.diffbir.keys import convert
    from restoration.tools.weights.installed import installed

    add("toy", TOY)
    assert registry.describe(["toy_layer.weight"]) == "a toy network"
    told = r"x\.pth is not .*: this is a toy network\. "
    with pytest.raises(UnknownWeightsError, match=told), registry.naming():
        convert({"toy_layer.weight": torch.zeros(1)}, "x.pth")
    (row,) = [row for row in installed({}) if row.name == "toy.pth"]
    assert row.url == "https://example.org/toy.pth" and not row.paths
    assert registry.files()["toy.pth"].size_text == "2.5 MB"


def test_a_method_that_fails_to_import_is_named_and_hides_no_other(add, caplog) -> None:
    before = registry.methods()
    add("broken", "raise RuntimeError('no such thing')")
    add("toy", TOY)
    with caplog.at_level(logging.ERROR):
        found = registry.methods()
        registry.schedules()
    assert [method.name for method in found] == [*(method.name for method in before), "toy"]
    (record,) = caplog.records
    assert "the method broken is missing" in record.getMessage() and record.exc_info


def test_a_name_that_is_taken_is_refused(add) -> None:
    add("toy", TOY.replace("toy_words", "seesr"))
    with pytest.raises(ValueError, match="Two methods bring the name seesr"):
        registry.prompts()


def test_every_folder_with_a_method_is_registered_under_its_own_name() -> None:
    root = Path(registry.__file__).parent
    folders = {
        path.parent.name for path in root.glob("*/__init__.py") if "METHOD = " in path.read_text()
    }
    assert set(registry.METHODS) == folders
    assert [method.name for method in registry.methods()] == registry.METHODS


def test_published_digests_and_sizes_are_plausible() -> None:
    for file in registry.files().values():
        assert file.url.startswith("https://") and file.size > 0 and file.license, file.name
        assert not file.sha256 or len(file.sha256) == 64


def test_every_address_that_the_code_of_a_method_names_is_in_the_table() -> None:
    """So that `python -m tools addresses` asks it."""
    table = [*registry.pages(), *(f.url for f in registry.files().values())]
    for method in registry.METHODS:
        for path in (ROOT / method).rglob("*.py"):
            if path.name == "__init__.py":  # which is the table
                continue
            for address in re.findall(r"https://[\w./-]+", path.read_text("utf-8")):
                known = address in table or address.startswith("https://arxiv.org/")
                assert known, f"{path.relative_to(ROOT)} names {address}: state it in METHOD.pages"
