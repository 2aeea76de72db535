"""Does a restored picture, made small again, still say what the input said?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .metrics import decibels
from .resample import resize

HOTTEST = 64.0
"""8-bit levels at which the heatmap reaches white: fixed, so that heatmaps can be compared."""
_COLORS = ((0, 0, 0), (0.25, 0.05, 0.45), (0.75, 0.15, 0.3), (1, 0.6, 0.05), (1, 1, 1))


@dataclass(frozen=True)
class Consistency:
    """What `lr_consistency` found, for B pictures."""

    psnr: Tensor
    """B, dB over the three channels, at most metrics.CAP, float64."""
    difference: Tensor
    """B 1 H W at the result's size: the largest difference of the channels, in 8-bit levels."""

    def heatmap(self) -> Tensor:
        """B 3 H W in 0..1: black where they agree, through purple, red and orange to white."""
        colors = self.difference.new_tensor(_COLORS)
        place = (self.difference[:, 0] / HOTTEST).clamp(0, 1) * (len(colors) - 1)
        left = place.long().clamp(max=len(colors) - 2)
        mixed = torch.lerp(colors[left], colors[left + 1], (place - left)[..., None])
        return mixed.movedim(-1, 1)

    def mask(self, threshold: float, softness: float = 0.0) -> Tensor:
        """B H W: 0 up to `threshold` (8-bit levels), 1 from `threshold` + `softness`, straight
        between. Without softness: 1 above the threshold."""
        above = self.difference[:, 0] - threshold
        if softness == 0:
            return (above > 0).to(above)
        return (above / softness).clamp(0, 1)


def lr_consistency(result: Tensor, lr: Tensor, downscale: float = 1.0) -> Consistency:
    """Compares the result with the low-resolution input at the input's size, or at a smaller one.

    result: B 3 H W, lr: B 3 h w, both 0..1, of one shape of picture and H >= h. Both are made
    small by antialiased bicubic, away from the border the one of MATLAB's imresize, with which the
    field makes its low-resolution pictures. downscale: h and w are divided by it first, so that the
    input's own noise and compression average out. Raises ValueError for sizes that do not match.
    """
    (height, width), (h, w) = result.shape[-2:], lr.shape[-2:]
    sizes = f"`result` is {width}x{height}, `lr` is {w}x{h}"
    if height < h or width < w:
        raise ValueError(
            f"{sizes}: the result is smaller than the input it came from. Are the two swapped?"
        )
    if abs(height / h - width / w) > 1 / h + 1 / w:  # either size may have been rounded
        raise ValueError(
            f"{sizes}: they have not the same shape, so pixels do not meet. Use the pictures before "
            "any cropping or padding."
        )
    size = max(1, round(h / downscale)), max(1, round(w / downscale))
    error = resize(result, *size) - resize(lr, *size)
    difference = error.abs().amax(1, keepdim=True) * 255
    return Consistency(
        decibels(error.double().square().mean((1, 2, 3)), 1.0),
        F.interpolate(difference, (height, width), mode="bilinear"),
    )
