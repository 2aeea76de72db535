from __future__ import annotations

import pytest
import torch

from restoration.training.proof import Lesson, Patches, lessons


def test_patches_give_back_what_they_keep() -> None:
    patches = Patches()
    flat = patches.basis.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(patches.channels))
    latent = torch.randn(2, patches.channels, 3, 5) / 4
    pixels = patches.decoded(latent) * 2 - 1
    torch.testing.assert_close(0.25 * patches(pixels)[0], latent)


@pytest.mark.host
@pytest.mark.slow  # half a minute of learning
def test_a_branch_learns_what_its_base_cannot_know(comfy, tmp_path) -> None:
    lesson = Lesson(tmp_path, 60, 40, pictures=64, unseen=16, parts=("diffbir",))
    base, loss, _ = lessons(lesson)
    assert "| base |" in base and "base alone" in loss
    before, after = (float(cell.split()[0]) for cell in loss.split("|")[3:5])
    assert after < before
