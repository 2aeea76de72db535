"""Pairs for an enlarging network: a sharp patch, and the same patch at a half or a quarter of its size.

The filter that shrank a picture is rarely known. Bicubic, the usual one, is drawn most often, so that
the network knows it best; the others keep it from relying on one filter alone.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .degrade import add_jpeg, exposed, quantize, resize, turned
from .noise import add_grain, add_noise

Array = np.ndarray
Rng = np.random.Generator

FILTERS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.BOX,
    Image.Resampling.LANCZOS,
    Image.Resampling.BILINEAR,
)
FILTER_SHARES = (0.6, 0.15, 0.15, 0.1)
SMALLER_SHARE = 0.4
"""Pictures shrunk a little first: detail as fine as a pixel, scenes as from afar."""
GRAIN_SHARE = 0.2
TRACES_SHARE = 0.04  # small pictures with weak noise or in a good JPEG


def patch_of(rng: Rng, image: Array, side: int) -> Array:
    """A random square of a picture, turned, mirrored, and exposed in some other way. HWC uint8."""
    room = min(image.shape[:2]) / side
    if rng.random() < SMALLER_SHARE and room > 1:
        scale = 1 / rng.uniform(1, min(room, 2))
        height, width = (max(side, round(n * scale)) for n in image.shape[:2])
        image = quantize(resize(image.astype(np.float32), height, width, Image.Resampling.LANCZOS))
    top, left = (int(rng.integers(0, n - side + 1)) for n in image.shape[:2])
    area = turned(rng, image[top : top + side, left : left + side])
    area = exposed(rng, area[..., rng.permutation(3)].astype(np.float32))
    if rng.random() < GRAIN_SHARE:
        area = add_grain(rng, area, rng.uniform(0.3, 5.0))
    return quantize(area)


def enlarging_pair(
    rng: Rng, image: Array, patch: int, factor: int, plain: bool = False
) -> tuple[Array, Array]:
    """A small patch (patch x patch x 3) and what it was (factor times the side), both uint8.

    image: HWC uint8, at least patch * factor on both sides. plain: always bicubic and without traces.
    """
    sharp = patch_of(rng, image, patch * factor)
    pick = 0 if plain else int(rng.choice(len(FILTERS), p=FILTER_SHARES))
    small = resize(sharp.astype(np.float32), patch, patch, FILTERS[pick])
    if not plain and rng.random() < TRACES_SHARE:
        small = add_noise(rng, small, rng.uniform(0.3, 2.0))
        if rng.random() < 0.5:
            small = add_jpeg(rng, small, int(rng.integers(85, 100)))
    return quantize(small), sharp
