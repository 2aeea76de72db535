"""LPIPS through torchmetrics, when it and its weights are already on this machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .needed import Weights, need

BACKBONE = Weights("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", "233 MB")
"""torchvision's AlexNet, which LPIPS (Zhang et al. 2018) stands on; its own are in torchmetrics."""
SMALLEST = 32
"""Pixels that AlexNet needs on a side."""


def load_lpips() -> Any:
    """The AlexNet form, as the papers report it. Nothing is fetched while a graph runs: raises
    ValueError, naming what is missing and where to put it."""
    need("lpips", ("torchmetrics",), (BACKBONE,))
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).eval()


@torch.no_grad()
def perceptual_distance(
    image: Tensor, reference: Tensor, crop_border: int = 0, network: Any = None
) -> Tensor:
    """LPIPS of each pair, 0 for equal pictures.

    image, reference: B 3 H W in 0..1, one shape. crop_border: pixels left out at every side.
    network: from `load_lpips`, where it is there already.
    Returns B, float64. Raises ValueError when too little is left, or as `load_lpips`.
    """
    height, width = image.shape[-2:]
    if min(height, width) - 2 * crop_border < SMALLEST:
        raise ValueError(
            f"LPIPS needs pictures of at least {SMALLEST}x{SMALLEST} pixels after cropping, found "
            f"{width}x{height} with `crop_border` {crop_border}. Or leave `lpips` out; PSNR and SSIM "
            "need less."
        )
    network = network or load_lpips()
    inner = (..., slice(crop_border, height - crop_border), slice(crop_border, width - crop_border))
    pairs = zip(image[inner].split(1), reference[inner].split(1), strict=True)
    return torch.stack([network(x.clamp(0, 1), y.clamp(0, 1)) for x, y in pairs]).double()
