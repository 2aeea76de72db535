"""SeeSR's training loss (Wu et al. 2024, eq. 3): the noise and nothing else."""

from __future__ import annotations

from torch import Tensor

from ..common.objective import mean_square


def seesr_loss(predicted: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """predicted, wanted: B 4 h w, the UNet's answer and its target."""
    return {"prediction": mean_square(predicted, wanted)}
