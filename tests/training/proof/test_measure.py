from __future__ import annotations

from types import SimpleNamespace

import torch

from restoration.training.parts.pasd import WAY
from restoration.training.proof import measure
from restoration.training.proof.patches import Patches


def test_restorations_are_compared_as_the_patches_show_them(monkeypatch) -> None:
    """One that is off by 0.1 here and -0.1 there is 20 dB; the mean of both is right."""
    patches = Patches(kept=2)
    hq = torch.full((2, 3, 32, 32), 0.5)
    batch = {"hq": hq, "lq": hq + 0.2, "captions": ["", ""]}
    ways = []

    def drawn(part, way, batch, latents, seed):
        ways.append(way)
        return hq + (0.1 if seed % 2 else -0.1)

    monkeypatch.setattr(measure, "restored", drawn)
    pictures = SimpleNamespace(batch=lambda: batch)
    before, one, mean = measure.restored_psnr(None, WAY, pictures, patches)
    assert abs(before - 13.98) < 0.01 and abs(one - 20) < 0.01 and mean > 80
    assert ways == [WAY] * 4
