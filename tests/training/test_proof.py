from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from restoration.common.diffusion import ForwardProcess
from restoration.training import proof
from restoration.training.proof import Lesson, Patches, lessons


def test_patches_give_back_what_they_keep() -> None:
    patches = Patches()
    flat = patches.basis.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(patches.channels))
    latent = torch.randn(2, patches.channels, 3, 5) / 4
    pixels = patches.decoded(latent) * 2 - 1
    torch.testing.assert_close(0.25 * patches(pixels)[0], latent)


def test_a_restoration_that_knows_the_noise_gives_the_picture(monkeypatch) -> None:
    patches, process = Patches(), ForwardProcess.scaled_linear()
    batch = {"hq": torch.rand(2, 3, 64, 64), "lq": torch.rand(2, 3, 64, 64)}
    z = proof.SCALE * patches(batch["hq"] * 2 - 1)[0]

    def exact(part, lq, x, timesteps):
        signal, share = (
            table[timesteps][:, None, None, None] for table in (process.signal, process.noise)
        )
        return (x - signal * z) / share

    monkeypatch.setattr(proof, "predicted", exact)
    pictures = SimpleNamespace(batch=lambda: batch)
    before, after = proof.restored_psnr(SimpleNamespace(process=process), pictures, patches)
    assert before < 30 and after > 60


@pytest.mark.host
@pytest.mark.slow  # half a minute of learning
def test_a_branch_learns_what_its_base_cannot_know(comfy, tmp_path) -> None:
    lesson = Lesson(tmp_path, 60, 40, pictures=64, unseen=16, parts=("diffbir",))
    base, loss, _ = lessons(lesson)
    assert "| base |" in base and "base alone" in loss
    before, after = (float(cell.split()[0]) for cell in loss.split("|")[3:5])
    assert after < before
