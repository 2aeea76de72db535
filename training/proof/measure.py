"""What a part is worth: the error of the noise it finds, and pictures restored as its authors do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...common import metrics
from ...common.draws import normal, rows_of
from ..restoration import Way, restored
from .patches import Patches
from .pictures import Pictures


@torch.no_grad()
def noise_errors(part: Any, unseen: Pictures, patches: Patches) -> list[float]:
    """Mean squared error of the found noise at ten noise levels, over fixed draws."""
    batch = unseen.batch()
    z = patches.encoded(batch["hq"])
    seen, context = part.seen(batch), part.context(batch)
    errors = []
    for level in range(10):
        noise = normal(rows_of(1, level, 0, len(z)), "proof", *z.shape[1:])
        timesteps = torch.full((len(z),), 50 + 100 * level)
        x = part.process.noised(z, noise, timesteps)
        found = part.predict(x, timesteps, context, seen)
        errors.append(float((found - noise).square().mean()))
    return errors


def noise_loss(part: Any, unseen: Pictures, patches: Patches) -> float:
    """The mean of `noise_errors`."""
    errors = noise_errors(part, unseen, patches)
    return sum(errors) / len(errors)


def psnr(found: Tensor, wanted: Tensor) -> float:
    """dB, the mean over pictures in 0..1."""
    return float(metrics.psnr(found.clamp(0, 1), wanted.clamp(0, 1), peak=1).mean())


def restored_psnr(
    part: Any, way: Way, unseen: Pictures, patches: Patches, draws: int = 4
) -> tuple[float, float, float]:
    """(of the damaged pictures, of one restoration, of the mean of several), dB, all as the patches
    show them. A single one is a draw from what may have been, whose error is twice that of the mean
    of all (Blau & Michaeli 2018); the mean of several shows what is known of the picture."""
    batch = unseen.batch()
    shown, wanted = (patches.decoded(patches.encoded(batch[key])) for key in ("lq", "hq"))
    drawn = [restored(part, way, batch, patches, seed=draw).clamp(0, 1) for draw in range(draws)]
    mean = torch.stack(drawn).mean(0)
    return psnr(shown, wanted), psnr(drawn[0], wanted), psnr(mean, wanted)
