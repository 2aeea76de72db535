"""PASD's training loss (Yang et al. 2024, section 3.4): noise, the pyramid of the image encoder, and for
colorization the colorfulness of the pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, l1_loss

from ..common.objective import mean_square

COLOR_WEIGHT = 0.003
"""The published 0.001, added once for each of three heads."""


def pasd_loss(
    predicted: Tensor, wanted: Tensor, rgbs: Sequence[Tensor], picture: Tensor, color: bool = False
) -> dict[str, Tensor]:
    """The terms; the loss is their sum.

    predicted, wanted: B 4 h w, the UNet's answer and its target (noise or velocity). rgbs: the
    toRGB heads' pictures, B 3 . . picture: the target in -1..1, B 3 H W. color: the published
    colorization, which wants the heads' pictures to be colorful.
    """
    terms = {"prediction": mean_square(predicted, wanted)}
    for number, rgb in enumerate(rgbs):
        # No antialiasing, as in the code.
        small = interpolate(picture, rgb.shape[-2:], mode="bilinear")
        terms[f"head_{number}"] = l1_loss(small.float(), rgb.float())
    if color:
        dullness = torch.stack([(1 - colorfulness(rgb.float())).sum() for rgb in rgbs])
        terms["color"] = COLOR_WEIGHT * dullness.sum()
    return terms


def colorfulness(rgb: Tensor) -> Tensor:
    """How colorful pictures are (Hasler & Suesstrunk 2003): spread and 0.3 times mean of red
    against green and yellow against blue. rgb: B 3 h w. Returns B."""
    red, green, blue = rgb.flatten(2).unbind(1)
    # The absolute values are PASD's.
    first, second = (red - green).abs(), (0.5 * (red + green) - blue).abs()
    spread = (first.var(-1) + second.var(-1)).sqrt()
    return spread + 0.3 * (first.mean(-1) ** 2 + second.mean(-1) ** 2).sqrt()
