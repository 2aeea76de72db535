from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from restoration.common.diffusion import ForwardProcess
from restoration.training.proof import measure
from restoration.training.proof.patches import Patches


@pytest.mark.parametrize("name", measure.PUBLISHED)
def test_a_restoration_that_knows_the_noise_gives_the_picture(monkeypatch, name) -> None:
    patches, process = Patches(kept=2), ForwardProcess.scaled_linear()
    batch = {"hq": torch.rand(2, 3, 32, 32), "lq": torch.rand(2, 3, 32, 32)}
    z = patches.encoded(batch["hq"])

    def exact(part, lq, x, timesteps):
        signal, share = (
            table[timesteps][:, None, None, None] for table in (process.signal, process.noise)
        )
        return (x - signal * z) / share

    monkeypatch.setattr(measure, "predicted", exact)
    pictures = SimpleNamespace(batch=lambda: batch)
    part = SimpleNamespace(process=process)
    before, after, mean = measure.restored_psnr(part, name, pictures, patches)
    assert before < 30 and after > 60 and mean > 60
