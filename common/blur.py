"""Blur kernels of practical degradation models, and the filter that applies them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")


def _offsets(size: int) -> tuple[Tensor, Tensor]:
    """y and x of every tap, size x size float64, 0 in the middle."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y, x


def blur_kernel(
    kind: str, size: int, sigma_x: float, sigma_y: float, angle: float, beta: float
) -> Tensor:
    """One of KINDS (Real-ESRGAN, section 3.1): size x size float64, odd size, sum 1.

    With d the squared Mahalanobis distance for the sigmas (pixels) turned by `angle` (radians):
    Gaussian exp(-d/2), generalized exp(-d^beta / 2), plateau 1 / (1 + d^beta).
    """
    y, x = _offsets(size)
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    distance = (along / sigma_x).square() + (across / sigma_y).square()
    if kind.startswith("plateau"):
        kernel = 1 / (1 + distance**beta)
    elif kind.startswith("generalized"):
        kernel = torch.exp(-0.5 * distance**beta)
    else:
        kernel = torch.exp(-0.5 * distance)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> Tensor:
    """The circular ideal low-pass, cut to size x size: float64, odd size, sum 1 (Real-ESRGAN, eq. 5).

    cutoff: radians per pixel; pi is the highest frequency along an axis. It rings, as sharpening
    and strong compression do.
    """
    y, x = _offsets(size)
    radius = torch.hypot(x, y)
    radius[size // 2, size // 2] = 1.0  # any but zero; the limit is set below
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return kernel / kernel.sum()


def _mirrored(length: int, margin: int, device: torch.device) -> Tensor:
    """Indices of a reflected border for any length, where F.pad refuses small pictures."""
    if length == 1:
        return torch.zeros(1 + 2 * margin, dtype=torch.long, device=device)
    period = 2 * (length - 1)
    folded = torch.arange(-margin, length + margin, device=device) % period
    return torch.where(folded < length, folded, period - folded)


def filter2d(pixels: Tensor, kernel: Tensor) -> Tensor:
    """Every channel of B C H W weighed by `kernel` (K x K, odd), borders reflected. Same shape."""
    margin = kernel.shape[-1] // 2
    channels, height, width = pixels.shape[1:]
    padded = pixels.index_select(-2, _mirrored(height, margin, pixels.device))
    padded = padded.index_select(-1, _mirrored(width, margin, pixels.device))
    weight = kernel.to(pixels).expand(channels, 1, *kernel.shape)
    return F.conv2d(padded, weight, groups=channels)


USM_SIZE, USM_SIGMA = 51, 8.0
"""A radius of 50 made odd, and the sigma that OpenCV derives from that size."""
USM_WEIGHT, USM_THRESHOLD = 0.5, 10 / 255


def usm_sharpened(pixels: Tensor) -> Tensor:
    """Unsharp masking where the picture has edges (Real-ESRGAN's sharpened targets, section 4.1):
    what a wide blur removes is added again, half as strong, where it is more than a threshold; the
    border of that region is blurred too. pixels: B C H W in 0..1 -> the same."""
    axis = torch.arange(USM_SIZE, dtype=torch.float64) - USM_SIZE // 2
    line = torch.exp(-(axis**2) / (2 * USM_SIGMA**2))
    line = line / line.sum()
    kernel = torch.outer(line, line)
    removed = pixels - filter2d(pixels, kernel)
    edges = filter2d((removed.abs() > USM_THRESHOLD).to(pixels), kernel)
    sharp = (pixels + USM_WEIGHT * removed).clamp(0, 1)
    return edges * sharp + (1 - edges) * pixels
