"""The table of what the oldest host runs is whole: a mechanism without a row fails here."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from restoration.registry import METHODS
from restoration.tests.imports import read_imports
from restoration.tests.mechanisms import (
    MECHANISMS,
    TEMPLATES,
    WHOLE_FILES,
    on_both_hosts,
    templates_with_every_node,
)

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"


def imports_comfyui(path: Path) -> bool:
    tops = {found.top for found in read_imports(path, ROOT) if not found.ours}
    return any(top.startswith("comfy") or top in ("folder_paths", "latent_preview") for top in tops)


def hosted() -> set[str]:
    """Every file in `host/`, and every file of a method that ComfyUI reaches directly."""
    methods = (path for name in METHODS for path in (ROOT / name).rglob("*.py"))
    files = [*(ROOT / "host").glob("[!_]*.py"), *filter(imports_comfyui, methods)]
    return {path.relative_to(ROOT).with_suffix("").as_posix() for path in files}


def test_every_mechanism_has_a_test_on_the_oldest_host() -> None:
    missing = sorted(hosted() - MECHANISMS.keys())
    assert not missing, f"add to tests/mechanisms.py, with the test that shows it works: {missing}"


def names_in(path: str) -> set[str]:
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    return {part.name for part in tree.body if isinstance(part, ast.FunctionDef)}


def test_every_row_names_a_file_and_a_test_that_exist() -> None:
    for file, name in MECHANISMS.items():
        assert (ROOT / f"{file}.py").is_file(), file
        path, _, test = name.partition("::")
        assert (TESTS / path).is_file(), f"{file}: there is no tests/{path}"
        assert test in names_in(path), f"{file}: tests/{path} has no {test}"
    for name in (*WHOLE_FILES, TEMPLATES):
        path, _, beginning = name.partition("::")
        assert any(test.startswith(beginning) for test in names_in(path)), name


def test_parameters_and_the_rest_of_a_file_are_told_apart() -> None:
    assert on_both_hosts("tests/host/test_pasd.py::test_published_folders_load_as_they_are[x-1]")
    assert on_both_hosts("tests/golden/test_golden.py::test_golden_case[pasd/unet]")
    assert on_both_hosts("tests/server/test_server.py::test_help_pages_are_served")
    assert not on_both_hosts("tests/host/test_pasd.py::test_no_heads_no_preview")
    assert on_both_hosts("tests/server/test_folder_run.py::test_it_starts_a_comfyui_by_itself")
    assert not on_both_hosts("tests/server/test_demo.py::test_figures_are_those_of_scikit_image")
    assert not on_both_hosts("tests/browser/test_first_hour.py::test_nodes_speak_chinese")


def test_the_templates_of_the_oldest_host_show_every_node() -> None:
    kinds = {
        path.stem: {node["class_type"] for node in json.loads(path.read_text("utf-8")).values()}
        for path in (ROOT / "workflows" / "api").glob("*.json")
    }
    chosen = templates_with_every_node()
    assert set().union(*(kinds[name] for name in chosen)) == set().union(*kinds.values())
    assert len(chosen) < len(kinds) * 2 / 3
    run = {name for name in kinds if on_both_hosts(f"tests/{TEMPLATES}[{name}]")}
    assert run == chosen
