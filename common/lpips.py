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


def require(metric: str, network: str, file: str, megabytes: int) -> None:
    """Raises ValueError, naming what is missing and where to put it, unless a metric's package and
    the ImageNet weights of torchvision that it stands on are on this machine. Nothing is fetched."""
    if importlib.util.find_spec("torchmetrics") is None:
        raise ValueError(
            f"`{metric}` needs the package torchmetrics, which ComfyUI does not install: run "
            f"`pip install torchmetrics` in ComfyUI's Python environment. Or switch `{metric}` off; "
            "PSNR and SSIM need neither."
        )
    place = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not place.is_file():
        raise ValueError(
            f"`{metric}` needs torchvision's {network} weights, which are not at {place}. Put "
            f"https://download.pytorch.org/models/{file} ({megabytes} MB) there. Or switch "
            f"`{metric}` off; PSNR and SSIM need neither."
        )


def load_lpips() -> Any:
    """The AlexNet form, as the papers report it. Nothing is fetched while a graph runs: raises
    ValueError, naming what is missing and where to put it."""
    require("lpips", "AlexNet", BACKBONE, 233)
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
            f"{width}x{height} with `crop_border` {crop_border}. Or switch `lpips` off; PSNR and SSIM "
            "need neither."
        )
    network = network or load_lpips()
    inner = (..., slice(crop_border, height - crop_border), slice(crop_border, width - crop_border))
    pairs = zip(image[inner].split(1), reference[inner].split(1), strict=True)
    return torch.stack([network(x.clamp(0, 1), y.clamp(0, 1)) for x, y in pairs]).double()
