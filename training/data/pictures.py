"""From a picture's bytes to the square that is learned from: scaled, cropped and mirrored as the
authors do, by draws of its own."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, from_numpy

from ..config import Data

Rng = np.random.Generator
FREEDOM = 0.7
"""DiffBIR's random crop takes at least this share of the shorter side."""


class UnreadablePictureError(Exception):
    """Not a picture, or broken."""


def read_picture(data: bytes) -> Image.Image:
    """RGB, turned as its EXIF says. Raises UnreadablePictureError."""
    try:
        return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise UnreadablePictureError(str(error)) from error
    except Image.DecompressionBombError as error:
        raise UnreadablePictureError(str(error)) from error


def cropped(picture: Image.Image, data: Data, rng: Rng) -> Image.Image:
    """The square of `data.size` that is learned from."""
    size, kind = data.size, data.crop
    if kind in ("random", "center"):
        picture = _grown(picture, size)
    elif kind == "shorter_side":
        picture = _scaled(picture, size / min(picture.size), Image.Resampling.BILINEAR, size)
    else:
        shorter = size
        if kind == "halving_random":
            shorter = int(rng.integers(size, math.ceil(size / FREEDOM) + 1))
        picture = _halved(picture, shorter)
    width, height = picture.size
    if kind in ("center", "halving"):
        left, top = (width - size) // 2, (height - size) // 2
    else:
        left, top = (int(rng.integers(0, side - size + 1)) for side in (width, height))
    picture = picture.crop((left, top, left + size, top + size))
    return ImageOps.mirror(picture) if rng.random() < data.flip else picture


def _grown(picture: Image.Image, size: int) -> Image.Image:
    """PASD: one that is too small grows until a crop of it has a little freedom."""
    shorter = min(picture.size)
    if shorter >= size:
        return picture
    factor = size / shorter + 0.02
    width, height = (math.ceil(side * factor) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def _halved(picture: Image.Image, shorter: int) -> Image.Image:
    """Guided diffusion's way to a shorter side: halves of box averages, the rest bicubic."""
    while min(picture.size) >= 2 * shorter:
        half = (picture.width // 2, picture.height // 2)
        picture = picture.resize(half, Image.Resampling.BOX)
    return _scaled(picture, shorter / min(picture.size), Image.Resampling.BICUBIC, shorter)


def _scaled(picture: Image.Image, factor: float, mode: Image.Resampling, least: int) -> Image.Image:
    width, height = (max(least, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), mode)


def to_tensor(picture: Image.Image) -> Tensor:
    """3 H W float32 in 0..1."""
    values = np.asarray(picture, np.float64) / 255  # as the authors', who divide before rounding
    return from_numpy(values.astype(np.float32)).movedim(-1, 0).contiguous()


def to_picture(pixels: Tensor) -> Image.Image:
    """3 H W in 0..1 -> 8 bits."""
    values = (pixels.detach().float().clamp(0, 1) * 255).round().byte()
    return Image.fromarray(values.movedim(0, -1).cpu().numpy())
