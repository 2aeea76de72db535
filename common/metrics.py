"""PSNR and SSIM as super-resolution papers compute them: on the luma of 8-bit pictures, in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PEAK = 255.0
CAP = 100.0
"""dB, of pictures that do not differ: their PSNR is infinite, which neither averages nor prints."""
WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def luma(pixels: Tensor) -> Tensor:
    """Y of ITU-R BT.601 in limited range, as MATLAB's rgb2ycbcr has it before it rounds.

    pixels: B 3 H W in 0..1, rounded to 8 bits first: papers measure files. Returns B 1 H W float64,
    16 (black) to 235 (white).
    """
    rgb = pixels.double().mul(255).round().clamp(0, 255).div(255)
    weights = rgb.new_tensor([65.481, 128.553, 24.966])
    return 16 + (rgb * weights[:, None, None]).sum(1, keepdim=True)


def decibels(error: Tensor, peak: float) -> Tensor:
    """PSNR of mean squared errors of values that reach `peak`, at most CAP."""
    return (10 * torch.log10(peak**2 / error)).clamp(max=CAP)


def _pair(image: Tensor, reference: Tensor, crop_border: int) -> tuple[Tensor, Tensor]:
    if image.shape != reference.shape:
        found, expected = (f"{t.shape[-1]}x{t.shape[-2]}" for t in (image, reference))
        raise ValueError(
            f"The pictures differ in size: `image` is {found}, `reference` is {expected}. "
            "Compare pictures of one size; Finish Restoration returns exactly the asked one."
        )
    height, width = (side - 2 * crop_border for side in image.shape[-2:])
    if min(height, width) < WINDOW:
        raise ValueError(
            f"{width}x{height} pixels are left after cropping {crop_border} from every side; "
            f"SSIM's window needs {WINDOW}x{WINDOW}. Lower `crop_border` or compare larger pictures."
        )
    inner = (..., slice(crop_border, crop_border + height), slice(crop_border, crop_border + width))
    return luma(image[inner]), luma(reference[inner])


def psnr(image: Tensor, reference: Tensor, crop_border: int = 0) -> Tensor:
    """Peak signal-to-noise ratio of the luma against a peak of 255, in dB, at most CAP.

    image, reference: B 3 H W in 0..1, one shape. crop_border: pixels left out at every side.
    Returns B, float64. Raises ValueError when the sizes differ or too little is left.
    """
    y, x = _pair(image, reference, crop_border)
    return decibels((y - x).square().mean((1, 2, 3)), PEAK)


def ssim(image: Tensor, reference: Tensor, crop_border: int = 0) -> Tensor:
    """Structural similarity of the luma (Wang et al. 2004, eq. 13), 1 for equal pictures.

    The window is 11 x 11 Gaussian with sigma 1.5 and never reaches over the border. Arguments,
    result and errors as for `psnr`.
    """
    y, x = _pair(image, reference, crop_border)
    axis = torch.arange(WINDOW, dtype=y.dtype, device=y.device) - WINDOW // 2
    taps = torch.exp(-axis.square() / (2 * _SIGMA**2))
    taps = taps / taps.sum()

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))

    c1, c2 = (_K1 * PEAK) ** 2, (_K2 * PEAK) ** 2
    my, mx = mean(y), mean(x)
    variances = mean(y * y) - my**2 + mean(x * x) - mx**2
    covariance = mean(y * x) - my * mx
    index = (2 * my * mx + c1) * (2 * covariance + c2)
    index = index / ((my**2 + mx**2 + c1) * (variances + c2))
    return index.mean((1, 2, 3))
