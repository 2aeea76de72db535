"""Resizing and padding, as the authors of the restoration methods do them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PadMode = Literal["reflect", "replicate", "zeros"]


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic, the kernel of DiffBIR, PASD and SeeSR (Pillow's BICUBIC in float).

    pixels: B C H W, any range; ringing may leave the range a little, as in the reference.
    Returns B C height width; the very same tensor when the size already fits.
    """
    if pixels.shape[-2:] == (height, width):
        return pixels
    return F.interpolate(
        pixels, (height, width), mode="bicubic", antialias=True, align_corners=False
    )


def _reflected_indices(length: int, target: int, device: torch.device) -> Tensor:
    """0, 1, ..., length-1, length-2, ..., 1, 0, 1, ...: `target` entries, for any length."""
    if length == 1:
        return torch.zeros(target, dtype=torch.long, device=device)
    period = 2 * (length - 1)
    folded = torch.arange(target, device=device) % period
    return torch.where(folded < length, folded, period - folded)


def pad_to(pixels: Tensor, height: int, width: int, mode: PadMode = "reflect") -> Tensor:
    """Grows B C H W to (height, width) at the right and bottom, where all these methods pad.

    `reflect` repeats its mirror as often as needed, so it works from 1x1 up, where
    torch.nn.functional.pad refuses.
    """
    h, w = pixels.shape[-2:]
    if (h, w) == (height, width):
        return pixels
    if mode == "reflect":
        rows = _reflected_indices(h, height, pixels.device)
        columns = _reflected_indices(w, width, pixels.device)
        return pixels.index_select(-2, rows).index_select(-1, columns)
    edges = (0, width - w, 0, height - h)
    return F.pad(pixels, edges, mode="replicate" if mode == "replicate" else "constant")


def round_up(length: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `length`."""
    return -(-length // multiple) * multiple
