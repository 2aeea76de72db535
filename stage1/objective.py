"""The training loss of DiffBIR's stage 1 (Lin et al. 2024, section 3.1)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss


def cleaning_loss(found: Tensor, wanted: Tensor) -> dict[str, Tensor]:
    """The sum, not the mean, of squared differences over batch, channels and pixels: its scale is
    published, and AdamW hides it. found, wanted: B 3 H W in 0..1."""
    return {"squares": mse_loss(found.float(), wanted.float(), reduction="sum")}
