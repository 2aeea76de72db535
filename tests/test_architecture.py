"""Imports point one way: nodes -> host -> common, nodes -> method -> common, host -> method."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METHODS = {"pasd", "diffbir", "seesr", "styleid"}
HOST_MODULES = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
}
MAY_IMPORT = {
    "": {"nodes"},
    "nodes": {"nodes", "host", "common", *METHODS},
    "host": {"host", "common", *METHODS},
    "common": {"common"},
    **{method: {method, "common"} for method in sorted(METHODS)},
    "tools": {"tools", "common", "workflows", "scripts", *METHODS},
}
# What torch code may use without costing the user an installation: ComfyUI ships all of it.
COMMON_LIBRARIES = {"torch", "einops", "kornia", "numpy", "safetensors", "scipy", "spandrel"}


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py")) if folder else [ROOT / "__init__.py"]


def imported(path: Path) -> tuple[set[str], set[str]]:
    """(top-level names imported absolutely, folders of the pack imported relatively)."""
    absolute: set[str] = set()
    inside: set[str] = set()
    folder = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            absolute |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                absolute.add((node.module or "").split(".")[0])
                continue
            base = folder[: len(folder) - node.level + 1]
            parts = [*base, *(node.module or "").split(".")]
            names = [alias.name for alias in node.names]
            inside |= set([parts[0]] if parts[0] else names)
    return absolute, inside


ALL = [(folder, path) for folder in MAY_IMPORT for path in files(folder)]


@pytest.mark.parametrize(("folder", "path"), ALL, ids=[str(p.relative_to(ROOT)) for _, p in ALL])
def test_imports_point_one_way(folder: str, path: Path) -> None:
    absolute, inside = imported(path)
    assert inside <= MAY_IMPORT[folder], f"{path.name} imports {inside - MAY_IMPORT[folder]}"
    if folder not in ("nodes", "host", ""):
        assert not absolute & HOST_MODULES, (
            f"{path.name} imports ComfyUI: {absolute & HOST_MODULES}"
        )


@pytest.mark.parametrize("path", files("common"), ids=lambda p: p.name)
def test_common_needs_only_what_comfyui_ships(path: Path) -> None:
    import sys

    absolute, _ = imported(path)
    assert absolute <= COMMON_LIBRARIES | set(sys.stdlib_module_names)


def test_the_parser_sees_a_forbidden_import(tmp_path) -> None:
    """The two tests above can fail."""
    assert imported(ROOT / "host" / "restorer.py")[0] & HOST_MODULES
    assert imported(ROOT / "nodes" / "color.py")[1] == {"common", "host"}


@pytest.mark.parametrize("path", files("nodes"), ids=lambda p: p.name)
def test_node_files_end_in_their_list(path: Path) -> None:
    if path.name == "__init__.py":
        return
    last = ast.parse(path.read_text()).body[-1]
    target = last.target if isinstance(last, ast.AnnAssign) else last.targets[0]  # type: ignore
    assert target.id == "NODES"  # type: ignore


def test_every_theme_file_is_listed() -> None:
    from restoration.nodes import THEMES

    assert set(THEMES) == {path.stem for path in files("nodes")} - {"__init__"}
