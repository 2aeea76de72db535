"""DiffBIR's own samplers, in the host's scale x = x0 + sigma noise.

Both are written for x0 predictions, so that an infinite first noise level (v2.1's zero terminal
SNR) costs no digits: nothing of the size of x is ever subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..common.sampling import Denoise
from ..common.schedule import LAST, TRAINING_STEPS


def growing_cfg(cfg: float, timestep: float) -> float:
    """DiffBIR's `rescale_cfg`: 1 at pure noise, cfg + 1 at the clean end (spec 4.5)."""
    done = (TRAINING_STEPS - timestep) / TRAINING_STEPS
    return 1 + cfg * (1 - math.cos(math.pi * done**5)) / 2


def spaced_timesteps(steps: int) -> list[int]:
    """DiffBIR's spaced DDPM: 999 down to 0, both included, in equal strides."""
    if steps == 1:
        raise ValueError(
            "DiffBIR's spaced schedule has its first and its last step fixed, so 1 step is too "
            "few. Use 2 or more."
        )
    timesteps, position = [], 0.0
    for _ in range(steps):
        timesteps.append(round(position))
        position += LAST / (steps - 1)
    return timesteps[::-1]


def edm_timesteps(steps: int) -> list[int]:
    """DiffBIR's EDM samplers: 999 downwards in equal strides, 0 excluded."""
    return [math.floor(i * (-LAST / steps) + LAST) for i in range(steps)]


def ddim_timesteps(steps: int) -> list[int]:
    """DiffBIR's DDIM: 1, 1 + stride, ..., reversed. More than `steps` of them where `steps` does
    not divide 1000."""
    stride = TRAINING_STEPS // steps
    if stride == 0 or 1 + LAST // stride * stride > LAST:
        raise ValueError(
            f"DDIM as DiffBIR runs it cannot take {steps} steps: its list would begin at timestep "
            "1000, outside the model's 0..999. Choose a number that divides 1000, such as 20 or 50."
        )
    return [1 + i * stride for i in range(LAST // stride + 1)][::-1]


def dpm_solver_timesteps(steps: int) -> list[float]:
    """DPM-Solver's `time_uniform`: fractions, 999 downwards in equal strides, 0 excluded."""
    return [LAST * (steps - i) / steps for i in range(steps)]


def dpm_solver_m2(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """DPM-Solver++ (2M), DiffBIR's `dpm++_m2` (Lu et al. 2022, alg. 2, in lambda = -log sigma).

    First order at the first step and, with fewer than 10 steps, at the last one.
    x: B C H W at sigmas[0]; sigmas: descending. Returns x at sigmas[-1].
    """
    steps = len(sigmas) - 1
    previous: Tensor | None = None
    for i in range(steps):
        x0 = direction = denoise(x, i)
        last_of_few = i == steps - 1 and steps < 10
        # At sigma 0 the next log is infinite and the correction vanishes.
        if previous is not None and not last_of_few and sigmas[i + 1] > 0:
            half = math.log(sigmas[i] / sigmas[i + 1]) / math.log(sigmas[i - 1] / sigmas[i]) / 2
            direction = x0 + half * (x0 - previous)
        x = torch.lerp(direction, x, sigmas[i + 1] / sigmas[i])
        previous = x0
    return x
