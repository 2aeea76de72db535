"""The forward process of diffusion models."""

from __future__ import annotations

import math

from torch import Tensor


def q_sample(x0: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """sqrt(A) x0 + sqrt(1 - A) noise: x0 at the noise level with cumulative product A
    (Ho et al. 2020, eq. 4), in the variance-preserving scale. A = 1 gives x0, A = 0 the noise."""
    return math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * noise
