"""DISTS through torchmetrics, when it and its backbone's weights are already on this machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .needed import Weights, need

BACKBONE = Weights("https://download.pytorch.org/models/vgg16-397923af.pth", "528 MB")
"""torchvision's VGG16, which DISTS (Ding et al. 2020) stands on; its own are in torchmetrics."""
SMALLEST = 32
"""Pixels on a side below which VGG's last stage is one pixel wide."""


def load_dists() -> Any:
    """The network. Nothing is fetched: raises ValueError, naming what is missing and where to put
    it."""
    need("dists", ("torchmetrics",), (BACKBONE,))
    from torchmetrics.functional.image.dists import DISTSNetwork

    return DISTSNetwork().eval()


@torch.no_grad()
def structure_texture_distance(
    image: Tensor, reference: Tensor, crop_border: int = 0, network: Any = None
) -> Tensor:
    """DISTS of each pair, 0 for equal pictures, at the size that they have: code that shrinks large
    pictures to 256 pixels first gives other figures.

    image, reference: B 3 H W in 0..1, one shape. crop_border: pixels left out at every side.
    network: from `load_dists`, where it is there already. Returns B, float64. Raises ValueError when
    too little is left, or as `load_dists`.
    """
    height, width = image.shape[-2:]
    if min(height, width) - 2 * crop_border < SMALLEST:
        raise ValueError(
            f"DISTS needs pictures of at least {SMALLEST}x{SMALLEST} pixels after cropping, found "
            f"{width}x{height} with `crop_border` {crop_border}. Or leave `dists` out."
        )
    network = network or load_dists()
    inner = (..., slice(crop_border, height - crop_border), slice(crop_border, width - crop_border))
    pairs = zip(image[inner].split(1), reference[inner].split(1), strict=True)
    return torch.stack([network(x.clamp(0, 1), y.clamp(0, 1)) for x, y in pairs]).double()
