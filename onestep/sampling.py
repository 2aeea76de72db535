"""The one step: what the network hears, and how its answer becomes the picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.schedule import LAST, TRAINING_STEPS, scaled_linear_alphas, sigmas_from


@dataclass(frozen=True)
class OneStep:
    """A run of one evaluation. z: the encoded photo, scaled as the network takes it; e: the
    network's answer; both B C h w, float32."""

    timestep: int
    """What the network hears."""
    sigmas: Tensor
    """The noise level of every timestep, ascending; a run begins at the last one."""
    x0: Callable[[Tensor, Tensor], Tensor]
    """(z, e) -> the restored latent."""
    variance_preserving: bool
    """Whether z counts as a noisy latent, divided by sqrt(1 + sigma^2), or as a clean one."""


def osediff_step() -> OneStep:
    """OSEDiff (Wu et al. 2024, eq. 5): the photo is taken for the noisiest latent, x_999, and x0 is
    (z - sqrt(1 - alpha_bar) e) / sqrt(alpha_bar)."""
    sigmas = sigmas_from(scaled_linear_alphas()).float()
    sigma = float(sigmas[-1])

    def x0(z: Tensor, e: Tensor) -> Tensor:
        return math.hypot(1, sigma) * z - sigma * e

    return OneStep(LAST, sigmas, x0, variance_preserving=True)


def pisasr_step(scale: float = 1.0) -> OneStep:
    """PiSA-SR (Sun et al. 2025): the network answers with the residual between the photo's latent
    and the restored one. scale: how much of it is taken."""

    def x0(z: Tensor, e: Tensor) -> Tensor:
        return z - scale * e

    # No noise is involved; these are there because a run of the host goes over noise levels.
    sigmas = torch.arange(1, TRAINING_STEPS + 1) / TRAINING_STEPS
    return OneStep(1, sigmas, x0, variance_preserving=False)
