"""Noise schedules: the training tables of Stable Diffusion and the step sets of the papers.

Two scales are in use. The papers write A for the cumulative product of alphas ("alpha bar") and
x = sqrt(A) x0 + sqrt(1 - A) noise; the host writes sigma = sqrt((1 - A) / A) and x0 + sigma noise.
Timesteps run from 0 (clean) to 999; step sets are given in the order of sampling, descending.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

TRAINING_STEPS = 1000
LAST = TRAINING_STEPS - 1

ZERO_SNR_SIGMA = 1e3
"""A table that ends above this is one with zero terminal signal-to-noise ratio. Stable Diffusion's
own ends at 14.6; the host writes 4518.8 for the infinite level, see `TERMINAL_SIGMA`."""

TERMINAL_SIGMA = 1e4
"""Stands for an infinite noise level, as in DiffBIR's EDM samplers (A = 1e-8). Larger ones lose
the picture to rounding in samplers that subtract x0 from x."""


def scaled_linear_alphas(
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
    steps: int = TRAINING_STEPS,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """A of every timestep, `steps` values: betas linear in their square roots (Rombach et al.
    2022). The default is Stable Diffusion's; diffusers (PASD) computes it in float32."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=dtype) ** 2
    return torch.cumprod(1 - betas, 0)


def zero_terminal_snr(alphas: Tensor) -> Tensor:
    """A table of A moved and stretched so that its last value is 0 (Lin et al. 2024, alg. 1)."""
    root = alphas.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def sigmas_from(alphas: Tensor) -> Tensor:
    """sqrt((1 - A) / A), the same shape and dtype; infinite where A = 0."""
    return ((1 - alphas) / alphas).sqrt()


def has_zero_terminal_snr(table: Tensor) -> bool:
    """Whether a table of sigmas (ascending) ends at pure noise."""
    return float(table[-1]) > ZERO_SNR_SIGMA


def signal(table: Tensor, timestep: int) -> float:
    """A at a timestep of a table of sigmas; exactly 0 at the end of a zero-terminal-SNR table."""
    if timestep == len(table) - 1 and has_zero_terminal_snr(table):
        return 0.0
    return 1 / (1 + float(table[timestep]) ** 2)


@cache
def _exact_levels() -> Tensor:
    alphas = scaled_linear_alphas()
    return torch.cat([sigmas_from(alphas), sigmas_from(zero_terminal_snr(alphas))[:-1]])


def unrounded(sigma: float) -> float:
    """The float64 noise level that a float32 one of Stable Diffusion's tables (plain or zero
    terminal SNR) stands for; others as they are. Differences of close levels need the digits."""
    levels = _exact_levels()
    level = float(levels[(levels - sigma).abs().argmin()])
    return level if math.isclose(level, sigma, rel_tol=2e-7) else sigma


@dataclass(frozen=True)
class Schedule:
    """A step set of some authors, and where it ends."""

    name: str
    timesteps: Callable[[int], list[int]] | Callable[[int], list[float]]
    ends_clean: bool = True
    """Ends at sigma 0; otherwise at the lowest noise level of the training table."""


def schedule_timesteps(schedule: Schedule, steps: int) -> list[int] | list[float]:
    """The step set of a schedule, strictly descending within 0..999, or a ValueError."""
    if steps > TRAINING_STEPS:
        raise ValueError(
            f"The schedule {schedule.name} cannot take {steps} steps: the model was trained on "
            f"{TRAINING_STEPS} noise levels. Use fewer."
        )
    timesteps = schedule.timesteps(steps)
    descending = all(later < earlier for earlier, later in pairwise(timesteps))
    if not descending or not 0 <= timesteps[0] <= LAST:
        raise ValueError(
            f"The schedule {schedule.name} cannot take {steps} steps: the model was trained on "
            f"{TRAINING_STEPS} noise levels and two steps would fall on the same one. Use fewer."
        )
    return timesteps


def schedule_sigmas(schedule: Schedule, table: Tensor, steps: int) -> Tensor:
    """Noise levels of a run: float32, strictly descending, one more than there are steps.

    table: the model's sigma of every timestep, ascending, 1000 values.
    """
    timesteps = schedule_timesteps(schedule, steps)
    levels = sigmas_at(table, torch.tensor(timesteps, dtype=torch.float64))
    if timesteps[0] == LAST and has_zero_terminal_snr(table):
        levels[0] = TERMINAL_SIGMA
    last = table.new_zeros(1) if schedule.ends_clean else table[:1]
    return torch.cat([levels.float(), last.float()])


def _log_signal(sigma: Tensor) -> Tensor:
    """log sqrt(A), float64."""
    return -0.5 * torch.log1p(sigma.double() ** 2)


def sigmas_at(table: Tensor, timesteps: Tensor) -> Tensor:
    """sigma at timesteps that may lie between those of the table: log sqrt(A) is linear in
    between, as in DPM-Solver (Lu et al. 2022). float64; a timestep of the table gives its sigma."""
    logs = _log_signal(table)
    low = timesteps.floor().long()
    high = (low + 1).clamp(max=len(table) - 1)
    between = torch.lerp(logs[low], logs[high], timesteps.double() - low)
    exact = table.double()[low]
    return torch.where(timesteps == low, exact, torch.expm1(-2 * between).sqrt())


def timesteps_at(table: Tensor, sigmas: Tensor) -> Tensor:
    """The inverse of `sigmas_at`: fractional timesteps, float64, within the table."""
    logs, wanted = _log_signal(table), _log_signal(sigmas)
    high = torch.searchsorted(-logs, -wanted).clamp(1, len(table) - 1)
    low = high - 1
    fraction = (wanted - logs[low]) / (logs[high] - logs[low])
    return low + fraction.clamp(0, 1)
