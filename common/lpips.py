"""LPIPS through torchmetrics, when it and its weights are already on this machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BACKBONE = "alexnet-owt-7be5be79.pth"
"""What torchvision calls the ImageNet weights that LPIPS (Zhang et al. 2018) with AlexNet stands on."""
SMALLEST = 32
"""Pixels that AlexNet needs on a side."""
_ADVICE = "Or switch `lpips` off; PSNR and SSIM need neither."


def load_lpips() -> Any:
    """The AlexNet form, as the papers report it. Nothing is fetched while a graph runs: raises
    ValueError, naming what is missing and where to put it."""
    if importlib.util.find_spec("torchmetrics") is None:
        raise ValueError(
            "`lpips` needs the package torchmetrics, which ComfyUI does not install: run "
            f"`pip install torchmetrics` in ComfyUI's Python environment. {_ADVICE}"
        )
    place = Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE
    if not place.is_file():
        raise ValueError(
            f"`lpips` needs torchvision's AlexNet weights, which are not at {place}. Put "
            f"https://download.pytorch.org/models/{BACKBONE} there. {_ADVICE}"
        )
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).eval()


@torch.no_grad()
def perceptual_distance(image: Tensor, reference: Tensor, crop_border: int = 0) -> Tensor:
    """LPIPS of each pair, 0 for equal pictures.

    image, reference: B 3 H W in 0..1, one shape. crop_border: pixels left out at every side.
    Returns B, float64. Raises ValueError when too little is left, or as `load_lpips`.
    """
    height, width = image.shape[-2:]
    if min(height, width) - 2 * crop_border < SMALLEST:
        raise ValueError(
            f"LPIPS needs pictures of at least {SMALLEST}x{SMALLEST} pixels after cropping, found "
            f"{width}x{height} with `crop_border` {crop_border}. {_ADVICE}"
        )
    network = load_lpips()
    inner = (..., slice(crop_border, height - crop_border), slice(crop_border, width - crop_border))
    pairs = zip(image[inner].split(1), reference[inner].split(1), strict=True)
    return torch.stack([network(x.clamp(0, 1), y.clamp(0, 1)) for x, y in pairs]).double()
