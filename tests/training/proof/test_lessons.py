"""A short form of the proof: every part learns what it is for."""

from __future__ import annotations

import pytest

from restoration.training.proof import tiny
from restoration.training.proof.lessons import PARTS, Lesson, lessons

pytestmark = pytest.mark.host


def learned(folder, **changes) -> dict[tuple[str, str], tuple[float, float]]:
    """{(part, measured): (before, after)}"""
    lesson = Lesson(folder, **{"pictures": 64, "unseen": 8, "batch": 4, **changes})
    return {(row.part, row.measured): (row.before, row.after) for row in lessons(lesson)}


def test_a_branch_learns_what_its_base_cannot_know(comfy, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tiny, "WIDTH", 32)
    found = learned(tmp_path, base_steps=30, steps=40, rate=5e-3, parts=("diffbir",))
    before, after = found["diffbir", "error of the noise"]
    assert found["base", "error of the noise"][1] == before and after < 0.98 * before


@pytest.mark.slow  # minutes of learning
def test_every_part_learns(comfy, tmp_path) -> None:
    found = learned(tmp_path, base_steps=250, steps=150, pictures=256, batch=16)
    assert {part for part, _ in found} == {"base", "tagger", "stage 1", *PARTS} - {"stage1"}
    less = ("error of the noise", "distance of embeddings")
    for (part, measured), (before, after) in found.items():
        if part in PARTS and measured == "PSNR, dB":
            continue  # takes longer: see docs/training.md
        assert (after < before) == (measured in less), (part, measured, before, after)
