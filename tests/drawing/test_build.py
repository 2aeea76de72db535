"""What is built is what lies in the folder of descriptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from restoration.drawing import workflows as descriptions
from restoration.drawing.build import workflows

ROOT = Path(__file__).parents[2]


def test_every_description_is_shipped_and_the_reverse() -> None:
    assert workflows().keys() == {path.stem for path in (ROOT / "workflows").glob("*.json")}


def test_a_new_file_in_the_folder_is_enough(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "toy.py").write_text("WORKFLOWS = {'toy_upscale': print}")
    monkeypatch.setattr(descriptions, "__path__", [*descriptions.__path__, str(tmp_path)])
    assert workflows()["toy_upscale"] is print


def test_two_descriptions_of_one_name_are_refused(tmp_path: Path, monkeypatch) -> None:
    """One of them would not be written, and nobody would know."""
    (tmp_path / "twin.py").write_text("WORKFLOWS = {'quick_restore': print}")
    monkeypatch.setattr(descriptions, "__path__", [*descriptions.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match="quick_restore is described twice"):
        workflows()
