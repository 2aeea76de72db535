"""What the training losses of several methods share."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from .diffusion import Prediction


def mean_square(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean of the squared differences over everything, in float32: the simple loss of diffusion
    models (Ho et al. 2020, eq. 14). Two tensors of one shape -> a scalar."""
    return mse_loss(found.float(), wanted.float())


def row_squares(found: Tensor, wanted: Tensor) -> Tensor:
    """The same for every row, B."""
    return mse_loss(found.float(), wanted.float(), reduction="none").flatten(1).mean(1)


def min_snr_weights(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """Weight of every row's loss: min(SNR, gamma) over SNR, for v over SNR + 1 (Hang et al. 2023,
    section 3.4). snr: B."""
    clipped = snr.clamp(max=gamma)
    return clipped / snr if prediction == "eps" else clipped / (snr + 1)
