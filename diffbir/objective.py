"""DiffBIR's training losses (Lin et al. 2024): the second stage's noise or velocity, and how its condition
is made worse in v2.1."""

from __future__ import annotations

from torch import Tensor

from ..common.objective import mean_square


def diffbir_loss(predicted: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """predicted, wanted: B 4 h w, the UNet's answer and its target. v1's code has two further
    terms, whose weights are zero."""
    return {"prediction": mean_square(predicted, wanted)}
