"""PSNR and SSIM, in float64: of any pictures, and as super-resolution papers have them, which measure
the luma of 8-bit files."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CAP = 100.0
"""dB, of pictures that do not differ: their PSNR is infinite, which neither averages nor prints."""
PEAK = 255.0
"""The largest value of an 8-bit file; its luma ends at 235, but papers divide by this."""
WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def decibels(error: Tensor, peak: float) -> Tensor:
    """PSNR of mean squared errors of values that reach `peak`, at most CAP."""
    return (10 * torch.log10(peak**2 / error)).clamp(max=CAP)


def psnr(image: Tensor, reference: Tensor, peak: float) -> Tensor:
    """Peak signal-to-noise ratio over all pixels and channels, in dB, at most CAP.

    image, reference: B C H W of one shape, any type, values up to `peak` (1 or 255). Returns B,
    float64. Raises ValueError when the sizes differ.
    """
    _check_sizes(image, reference)
    return decibels((image.double() - reference.double()).square().mean((1, 2, 3)), peak)


def ssim(image: Tensor, reference: Tensor, peak: float, negative_structure: bool = True) -> Tensor:
    """Structural similarity (Wang et al. 2004, eq. 13), 1 for equal pictures; the mean over channels.

    The window is 11 x 11 Gaussian with sigma 1.5 and never reaches over the border. Arguments and
    result as for `psnr`. negative_structure: False takes it for 0 where the two run against each
    other. Raises ValueError when the sizes differ or the window does not fit.
    """
    _check_sizes(image, reference)
    height, width = image.shape[-2:]
    if min(height, width) < WINDOW:
        raise ValueError(
            f"The pictures have {width}x{height} pixels; SSIM's window needs {WINDOW}x{WINDOW}. "
            "Compare larger pictures."
        )
    y, x = image.double(), reference.double()
    axis = torch.arange(WINDOW, dtype=y.dtype, device=y.device) - WINDOW // 2
    taps = torch.exp(-axis.square() / (2 * _SIGMA**2))
    taps = taps / taps.sum()

    def mean(values: Tensor) -> Tensor:
        flat = values.flatten(0, 1)[:, None]  # each channel by itself
        blurred = F.conv2d(F.conv2d(flat, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
        return blurred.reshape(*values.shape[:2], *blurred.shape[-2:])

    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    my, mx = mean(y), mean(x)
    variances = mean(y * y) - my**2 + mean(x * x) - mx**2
    covariance = mean(y * x) - my * mx
    structure = 2 * covariance + c2
    if not negative_structure:
        structure = structure.clamp(min=0)
    index = (2 * my * mx + c1) * structure
    index = index / ((my**2 + mx**2 + c1) * (variances + c2))
    return index.mean((1, 2, 3))


def _check_sizes(image: Tensor, reference: Tensor) -> None:
    if image.shape != reference.shape:
        found, expected = (f"{t.shape[-1]}x{t.shape[-2]}" for t in (image, reference))
        raise ValueError(
            f"The pictures differ in size: `image` is {found}, `reference` is {expected}. "
            "Compare pictures of one size; Finish Restoration returns exactly the asked one."
        )


def luma(pixels: Tensor) -> Tensor:
    """Y of ITU-R BT.601 in limited range, as MATLAB's rgb2ycbcr has it before it rounds.

    pixels: B 3 H W in 0..1, rounded to 8 bits first: papers measure files. Returns B 1 H W float64,
    16 (black) to 235 (white).
    """
    rgb = pixels.double().mul(255).round().clamp(0, 255).div(255)
    weights = rgb.new_tensor([65.481, 128.553, 24.966])
    return 16 + (rgb * weights[:, None, None]).sum(1, keepdim=True)


def luma_psnr(image: Tensor, reference: Tensor, crop_border: int = 0) -> Tensor:
    """`psnr` of the luma against a peak of 255: the "PSNR (Y)" of papers.

    image, reference: B 3 H W in 0..1, one shape. crop_border: pixels left out at every side.
    Returns B, float64. Raises ValueError when the sizes differ or too little is left.
    """
    return psnr(*_lumas(image, reference, crop_border), PEAK)


def luma_ssim(image: Tensor, reference: Tensor, crop_border: int = 0) -> Tensor:
    """`ssim` of the luma. Arguments, result and errors as for `luma_psnr`."""
    return ssim(*_lumas(image, reference, crop_border), PEAK)


def papers_luma_ssim(image: Tensor, reference: Tensor, crop_border: int = 0) -> Tensor:
    """The "SSIM (Y)" that papers print, of their toolbox (IQA-PyTorch): `luma_ssim`, but the luma is
    rounded as MATLAB's of an 8-bit picture, and no structure is negative. Arguments, result and
    errors as for `luma_psnr`."""
    ours, theirs = (each.round() for each in _lumas(image, reference, crop_border))
    return ssim(ours, theirs, PEAK, negative_structure=False)


def cropped(pixels: Tensor, border: int) -> Tensor:
    """B C H W without so many pixels at every side. ValueError where nothing is left."""
    height, width = pixels.shape[-2:]
    if min(height, width) <= 2 * border:
        raise ValueError(f"{width}x{height} pixels have nothing left inside a border of {border}.")
    return pixels[..., border : height - border, border : width - border]


def _lumas(image: Tensor, reference: Tensor, crop_border: int) -> tuple[Tensor, Tensor]:
    _check_sizes(image, reference)
    height, width = (side - 2 * crop_border for side in image.shape[-2:])
    if min(height, width) < WINDOW:
        raise ValueError(
            f"{width}x{height} pixels are left after cropping {crop_border} from every side; "
            f"SSIM's window needs {WINDOW}x{WINDOW}. Lower `crop_border` or compare larger pictures."
        )
    inner = (..., slice(crop_border, crop_border + height), slice(crop_border, crop_border + width))
    return luma(image[inner]), luma(reference[inner])
