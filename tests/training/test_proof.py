from __future__ import annotations

import pytest
import torch

from restoration.training.proof import Lesson, Patches, lessons

pytestmark = pytest.mark.host


def test_patches_give_back_what_they_keep() -> None:
    patches = Patches()
    flat = patches.basis.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(patches.channels))
    latent = torch.randn(2, patches.channels, 3, 5) / 4
    pixels = patches.decoded(latent) * 2 - 1
    torch.testing.assert_close(0.25 * patches(pixels)[0], latent)


@pytest.mark.slow  # two minutes of learning
def test_a_branch_learns_what_its_base_cannot_know(comfy, tmp_path) -> None:
    lesson = Lesson(tmp_path, base_steps=150, steps=150, pictures=128, unseen=16)
    rows = list(lessons(lesson))
    gains = {row.split("|")[1].strip() for row in rows}
    assert gains == {"stage 1", "base", "diffbir", "pasd", "seesr"}
    for row in rows:
        before, after = (float(cell.split()[0]) for cell in row.split("|")[3:5])
        if "error" in row:
            assert after < before, row
        elif "stage 1" in row:
            assert after > before, row
