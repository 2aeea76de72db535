"""DiffBIR's own samplers, in the host's scale x = x0 + sigma noise.

Both are written for x0 predictions, so that an infinite first noise level (v2.1's zero terminal
SNR) costs no digits: nothing of the size of x is ever subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ..common.sampling import Denoise, Noise


def spaced_ddpm(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Tensor:
    """Spaced DDPM with the small fixed variance (Nichol & Dhariwal 2021; DiffBIR v1 and v2;
    SeeSR's DDPM is the same).

    With r = (sigma' / sigma)^2 the posterior of Ho et al. 2020, eq. 7, multiplied by
    sqrt(1 + sigma'^2), is N((1 - r) x0 + r x, sigma'^2 (1 - r)).
    x: B C H W at sigmas[0]; sigmas: descending. Returns x at sigmas[-1].
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, i)
        ratio = (sigma_next / sigma) ** 2
        x = (1 - ratio) * x0 + ratio * x
        if sigma_next > 0:
            x = x + sigma_next * math.sqrt(1 - ratio) * noise(i)
    return x


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
