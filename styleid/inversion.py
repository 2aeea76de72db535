"""DDIM inversion as StyleID runs it: which noise levels, at which timestep the network is asked,
and the step from one level to the next.

Its two published programs differ in the timestep that the network is told. `diffusers` (the
authors' later script) asks at the level that the step goes to, `ldm` (the paper's code) at the
level it comes from. Timesteps index the 1000 levels of training; z is a latent in the
variance-preserving scale, x = z sqrt(1 + sigma^2) the same in the host's.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from ..common.schedule import LAST, TRAINING_STEPS

Convention = Literal["diffusers", "ldm"]
Prediction = Literal["eps", "v"]

MIN_STEPS = 2
MAX_STEPS = TRAINING_STEPS // 2


class Step(NamedTuple):
    """One evaluation of the network, all three as timesteps."""

    timestep: int
    """What the network is told; features are stored and used under it."""
    before: int
    """The level that z is at."""
    after: int
    """The level that z is moved to."""


def stride(steps: int) -> int:
    """Timesteps between two steps."""
    return TRAINING_STEPS // steps


def timesteps(steps: int) -> list[int]:
    """1, 1 + stride, ...: `leading` spacing with offset 1, ascending."""
    if not MIN_STEPS <= steps <= MAX_STEPS:
        raise ValueError(
            f"DDIM inversion was asked for {steps} steps; it takes {MIN_STEPS} to {MAX_STEPS}. "
            "The authors use 50."
        )
    return [1 + i * stride(steps) for i in range(steps)]


def inversion_steps(steps: int, convention: Convention) -> list[Step]:
    """From the clean latent to the noisiest level.

    diffusers: from level 0 to the last timestep. ldm: the clean latent is taken to be at level 1,
    and a last step goes on to level 999.
    """
    told = timesteps(steps)
    if convention == "ldm":
        return [Step(*step) for step in zip(told, told, [*told[1:], LAST], strict=True)]
    before = [max(0, timestep - stride(steps)) for timestep in told]
    return [Step(*step) for step in zip(told, before, told, strict=True)]


def denoising_timesteps(steps: int, convention: Convention) -> list[int]:
    """The time steps of the way back, descending. ldm begins one step late, though z is at level
    999: its code does, and ignores the difference of levels."""
    return timesteps(steps)[: -1 if convention == "ldm" else None][::-1]


def ddim_step(
    x: Tensor, output: Tensor, sigma: float, sigma_after: float, prediction: Prediction
) -> Tensor:
    """x moved from one noise level to another (Song et al. 2021, eta 0), up or down.

    x: B C h w in the host's scale, at level `sigma`. output: the network's eps or v for z at that
    level; v is read at the angle of `sigma`, whatever timestep the network was told.
    """
    if prediction == "eps":
        return x + (sigma_after - sigma) * output
    a = (1 + sigma**2) ** -0.5
    z, b = a * x, a * sigma
    x0, eps = a * z - b * output, a * output + b * z
    return x0 + sigma_after * eps
