"""A short form of the proof: every part learns what it is for."""

from __future__ import annotations

import pytest

from restoration.training.proof import tiny
from restoration.training.proof.lessons import PARTS, Lesson, Row, lessons

pytestmark = pytest.mark.host


def learned(folder, monkeypatch, **changes) -> dict[tuple[str, str], Row]:
    """{(part, measured): row} of narrow networks."""
    monkeypatch.setattr(tiny, "WIDTH", 32)
    lesson = Lesson(folder, pictures=64, unseen=8, batch=4, rate=5e-3, draws=1, **changes)
    return {(row.part, row.measured): row for row in lessons(lesson)}


def test_a_branch_learns_what_its_base_cannot_know(comfy, tmp_path, monkeypatch) -> None:
    found = learned(tmp_path, monkeypatch, base_steps=30, steps=40, parts=("diffbir",))
    row = found["diffbir", "error of the noise"]
    assert found["base", "error of the noise"].after == row.before
    assert row.after < 0.98 * row.before


@pytest.mark.slow  # minutes of learning
def test_every_part_learns(comfy, tmp_path, monkeypatch) -> None:
    """What so short a run reaches; how far a longer one gets is in docs/training.md."""
    found = learned(tmp_path, monkeypatch, base_steps=120, steps=100)
    assert {part for part, _ in found} == {"base", "tagger", "stage 1", *PARTS} - {"stage1"}
    cleaner = found["stage 1", "PSNR, dB"]
    assert cleaner.after > cleaner.beside["fresh"] + 1
    less = dict.fromkeys(tiny.BRANCHES, "error of the noise") | {"dape": "distance of embeddings"}
    for row in (found[each] for each in less.items()):
        assert row.after < row.before, row
