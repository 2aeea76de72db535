"""Figures of a result alone, without an original, through piq."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .metrics import cropped
from .needed import Weights, need

_PIQ = "https://github.com/photosynthesis-team/piq/releases/download"
CLIP = (
    Weights(f"{_PIQ}/v0.7.1/RN50.pt", "244 MB", "~/.cache/clip"),
    Weights(f"{_PIQ}/v0.7.1/clipiqa_tokens.pt", "a few KB", "~/.cache/clip"),
)
SUPPORT_VECTORS = Weights(f"{_PIQ}/v0.4.0/brisque_svm_weights.pt", "112 KB")

Alone = Callable[[Tensor], Tensor]
"""1 3 H W in 0..1 -> one figure."""


def load_clipiqa() -> Alone:
    """CLIP-IQA (Wang et al. 2023): how much nearer CLIP's ResNet-50 finds a picture to `Good photo.` than
    to `Bad photo.`, 0..1. Nothing is fetched: raises ValueError, naming what is missing."""
    need("clipiqa", ("piq",), CLIP)
    from piq import CLIPIQA

    network = CLIPIQA().eval()
    return torch.no_grad()(lambda pixels: network(pixels.clamp(0, 1)))


def load_brisque() -> Alone:
    """BRISQUE (Mittal et al. 2012): how far the statistics of a picture's local contrast are from those
    of photographs, about 0..100. Nothing is fetched: raises ValueError, naming what is missing."""
    need("brisque", ("piq",), (SUPPORT_VECTORS,))
    from piq import brisque

    def measure(pixels: Tensor) -> Tensor:
        try:
            return brisque(pixels.clamp(0, 1).double(), reduction="none")
        except AssertionError as error:  # of a picture of one color, which has no contrast
            raise ValueError(f"BRISQUE is not defined here ({error}).") from error

    return measure


def figures_alone(measure: Alone, image: Tensor, crop_border: int = 0) -> Tensor:
    """The figure of each picture. image: B 3 H W in 0..1. crop_border: pixels left out at every side.
    Returns B, float64. Raises ValueError where nothing is left, or as the measure does."""
    inner = cropped(image, crop_border)
    return torch.stack([measure(picture).double().reshape(()) for picture in inner.split(1)])
