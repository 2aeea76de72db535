"""DreamBooth's training loss (Ruiz et al. 2023, eq. 2)."""

from __future__ import annotations

from torch import Tensor

from ...common.diffusion import ForwardProcess
from ...common.objective import mean_square, min_snr_weights, row_squares

OFFSET = 0.1
"""How strongly one value a channel shifts the noise, where that is asked for."""


def with_offset(noise: Tensor, offset: Tensor) -> Tensor:
    """noise: B 4 h w. offset: B 4 1 1, unit noise."""
    return noise + OFFSET * offset


def dreambooth_loss(
    predicted: Tensor,
    wanted: Tensor,
    classes: int = 0,
    prior_weight: float = 1.0,
    weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms; the loss is their sum.

    predicted, wanted: B 4 h w, instances first, then as many rows as `classes` says of pictures of
    the class, which keep what the model knew of it (prior preservation). weights: of the
    instances' losses.
    """
    instances = len(predicted) - classes
    found, target = predicted[:instances], wanted[:instances]
    if weights is None:
        terms = {"instance": mean_square(found, target)}
    else:
        terms = {"instance": (weights * row_squares(found, target)).mean()}
    if classes:
        prior = mean_square(predicted[instances:], wanted[instances:])
        terms["prior"] = prior_weight * prior
    return terms


def snr_weights(process: ForwardProcess, timesteps: Tensor, gamma: float, classes: int) -> Tensor:
    """Min-SNR weights of the instance rows alone. (The published script with prior preservation
    weighs by all rows, which fails for more than one instance.)"""
    instances = timesteps[: len(timesteps) - classes]
    return min_snr_weights(process.snr(instances), gamma, process.prediction)
