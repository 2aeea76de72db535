"""The pictures of the help pages, as far as they are made without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from restoration.drawing.build import workflows
from restoration.drawing.help.pictures import DRAWN, IN_COMFYUI, IN_GRAPH, LARGEST, main, save

ROOT = Path(__file__).parents[2]


def test_every_page_has_one_way_to_its_picture() -> None:
    pages = {page.stem for page in (ROOT / "web" / "docs").glob("*.md")}
    assert pages == DRAWN.keys() | IN_COMFYUI.keys()
    assert not DRAWN.keys() & IN_COMFYUI.keys()


def test_nodes_are_shown_in_workflows_that_are_shipped() -> None:
    assert IN_GRAPH and set(IN_GRAPH.values()) <= workflows().keys()


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_drawn_fits_into_a_page(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    save(DRAWN[name](), path)
    assert path.stat().st_size <= LARGEST


def test_an_unknown_node_is_named() -> None:
    with pytest.raises(SystemExit, match="picture of Nothing"):
        main(["RestorationCFG", "Nothing"])
