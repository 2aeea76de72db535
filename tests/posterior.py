"""The posterior of Ho et al. 2020, for tests that compare with it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Posterior(NamedTuple):
    """q(x_prev | x, x0) = N(x0_coef x0 + x_coef x, variance), variance-preserving scale."""

    x0_coef: Tensor
    x_coef: Tensor
    variance: Tensor


def posterior(alphas: Tensor, alphas_prev: Tensor) -> Posterior:
    """Coefficients of the step from A to the cleaner A' (Ho et al. 2020, eq. 7; any stride).

    alphas: A of the present level; alphas_prev: A' of the next, 1 for the clean picture.
    """
    beta = 1 - alphas / alphas_prev
    noise = 1 - alphas
    return Posterior(
        beta * alphas_prev.sqrt() / noise,
        (1 - alphas_prev) * (1 - beta).sqrt() / noise,
        beta * (1 - alphas_prev) / noise,
    )
