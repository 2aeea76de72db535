"""What is built is what lies in the folder of descriptions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from restoration.drawing import workflows as descriptions
from restoration.drawing.build import workflows

ROOT = Path(__file__).parents[2]


def test_every_description_is_shipped_and_the_reverse() -> None:
    folder, built = ROOT / "workflows", workflows()
    assert {each.path for each in built.values()} == set(folder.glob("*.json"))
    assert built.keys() == {path.stem for path in (folder / "api").glob("*.json")}


def test_the_one_that_needs_nothing_is_listed_first_and_titles_are_names_of_files() -> None:
    titles = {name: each.title for name, each in workflows().items()}
    assert min(titles, key=lambda name: titles[name]) == "quick_restore"
    assert len(set(titles.values())) == len(titles)
    for title in titles.values():
        assert re.fullmatch(r"[1-9] [A-Z][\w ,.()-]+[\w)]", title), title


def test_a_new_file_in_the_folder_is_enough(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "toy.py").write_text("WORKFLOWS = {'toy_upscale': ('9 Toy', print)}")
    monkeypatch.setattr(descriptions, "__path__", [*descriptions.__path__, str(tmp_path)])
    assert workflows()["toy_upscale"].describe is print


def test_two_descriptions_of_one_name_are_refused(tmp_path: Path, monkeypatch) -> None:
    """One of them would not be written, and nobody would know."""
    (tmp_path / "twin.py").write_text("WORKFLOWS = {'quick_restore': ('9 Twin', print)}")
    monkeypatch.setattr(descriptions, "__path__", [*descriptions.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match="quick_restore is described twice"):
        workflows()
