"""Color correction: give a restored picture the colors of the photo it came from."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .resample import resize

ColorCorrection = Literal["none", "wavelet", "adain", "lab"]

WAVELET_LEVELS = 5
"""Blur radii 1, 2, 4, 8, 16: what StableSR chose and DiffBIR, PASD and SeeSR kept."""


def _blur(pixels: Tensor, radius: int) -> Tensor:
    """The 3x3 binomial kernel [1 2 1]^T [1 2 1] / 16 dilated by `radius`, edges replicated."""
    channels = pixels.shape[1]
    row = torch.tensor([1.0, 2.0, 1.0], dtype=pixels.dtype, device=pixels.device)
    kernel = (torch.outer(row, row) / 16).expand(channels, 1, 3, 3)
    padded = F.pad(pixels, (radius,) * 4, mode="replicate")
    return F.conv2d(padded, kernel, groups=channels, dilation=radius)


def wavelet_decomposition(pixels: Tensor, levels: int = WAVELET_LEVELS) -> tuple[Tensor, Tensor]:
    """Splits into high and low frequencies with an undecimated (a trous) wavelet.

    pixels: B C H W, any range and size. Returns (high, low), each B C H W; high + low is the
    input up to rounding. Source: StableSR's color fix, as used by DiffBIR, PASD and SeeSR.
    """
    high = torch.zeros_like(pixels)
    low = pixels
    for level in range(levels):
        blurred = _blur(low, 2**level)
        high = high + (low - blurred)
        low = blurred
    return high, low


def wavelet_color_fix(pixels: Tensor, reference: Tensor, levels: int = WAVELET_LEVELS) -> Tensor:
    """The details of `pixels` on the low frequencies (colors) of `reference`.

    pixels B C H W, reference B C H' W' (resized to H W if needed), same range. Not clamped.
    """
    reference = resize(reference, pixels.shape[-2], pixels.shape[-1])
    high, _ = wavelet_decomposition(pixels, levels)
    _, low = wavelet_decomposition(reference, levels)
    return high + low


def mean_std(pixels: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Per image and channel: mean and sqrt(unbiased variance + eps), each B C 1 1."""
    unbiased = int(pixels.shape[-2] * pixels.shape[-1] > 1)  # one pixel has variance 0, not NaN
    variance, mean = torch.var_mean(pixels, dim=(-2, -1), correction=unbiased, keepdim=True)
    return mean, (variance + eps).sqrt()


def adain(content: Tensor, style: Tensor, eps: float = 1e-5) -> Tensor:
    """Gives content the per-channel mean and std of style (Huang & Belongie 2017, eq. 8).

    content, style: B C H W, any range, same B and C; sizes may differ. std is
    sqrt(unbiased variance + eps), as in the authors' color fixes. Not clamped.
    """
    content_mean, content_std = mean_std(content, eps)
    style_mean, style_std = mean_std(style, eps)
    return (content - content_mean) / content_std * style_std + style_mean


def lab_color_fix(pixels: Tensor, reference: Tensor, levels: int = WAVELET_LEVELS) -> Tensor:
    """Wavelet color fix of the chroma only: in CIELAB, a and b take the low frequencies of
    `reference`, L stays the restored picture's, so brightness and contrast are not touched.

    pixels B 3 H W and reference B 3 H' W', both RGB in 0..1. Returns RGB, clamped to 0..1 by
    the conversion. Our own choice: none of the papers has it.
    """
    from kornia.color import lab_to_rgb, rgb_to_lab  # imported late: it takes a second

    lightness, chroma = rgb_to_lab(pixels.clamp(0, 1)).split([1, 2], 1)
    chroma = wavelet_color_fix(chroma, rgb_to_lab(reference.clamp(0, 1))[:, 1:], levels)
    return lab_to_rgb(torch.cat([lightness, chroma], 1))


def correct_color(pixels: Tensor, reference: Tensor, method: ColorCorrection) -> Tensor:
    """`pixels` with the colors of `reference` by the named method; B 3 H W in 0..1, unclamped.

    Image by image, as every method treats them: what lies in between is many times an image.
    """
    if pixels.shape[0] > 1 and method != "none":
        rows = zip(pixels.split(1), reference.split(1), strict=True)
        return torch.cat([correct_color(row, colors, method) for row, colors in rows])
    match method:
        case "none":
            return pixels
        case "wavelet":
            return wavelet_color_fix(pixels, reference)
        case "adain":
            return adain(pixels, reference)
        case "lab":
            return lab_color_fix(pixels, reference)
    raise ValueError(f"Unknown colour correction {method!r}; choose none, wavelet, adain or lab.")
