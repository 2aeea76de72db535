"""JPEG: a real file in memory, for code that may not depend on Pillow, and its arithmetic alone."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad


def jpeg_round_trip(pixels: Tensor, quality: int) -> Tensor:
    """Writes and reads each picture with halved color (4:2:0), the default of OpenCV and cameras.

    pixels: B 3 H W in 0..1, rounded to 8 bits. Returns the same shape, dtype and device.
    """
    from PIL import Image

    images = pixels.mul(255).round().clamp(0, 255).byte().movedim(1, -1).cpu().numpy()
    rows = []
    for image in images:
        with BytesIO() as file:
            Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=2)
            rows.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(rows)).movedim(-1, 1).to(pixels).div(255)


BLOCK = 8
LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
"""Steps of quantization (ITU T.81, annex K); those of color are 99 beyond the corner."""
TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
MIDDLE = 128


def jpeg_arithmetic(pixels: Tensor, quality: float) -> Tensor:
    """What JPEG at 4:2:0 loses, without a file (DiffJPEG, Shin & Song 2017, as Real-ESRGAN uses
    it): blocks, halved color by averaging, rounding in steps of the tables times a factor.

    pixels: B 3 H W in 0..1, not rounded to 8 bits before or after. quality: 1..100, any real
    number. Returns the same shape, dtype and device. The published code has the table of the
    luma turned by its diagonal, and black beyond the picture; both are kept.
    """
    height, width = pixels.shape[-2:]
    whole = pad(pixels * 255, (0, -width % (2 * BLOCK), 0, -height % (2 * BLOCK)))
    luma, *color = (_mixed(whole, TO_YCBCR)).split(1, 1)
    factor = (50 / quality) if quality < 50 else (2 - quality / 50)
    tables = _tables(pixels)
    luma = _coded(luma, tables[0] * factor)
    # Around zero where the standard has the middle: it moves the blocks down by that again.
    color = [
        interpolate(
            _coded(avg_pool2d(each + MIDDLE, 2), tables[1] * factor) - MIDDLE, scale_factor=2.0
        )
        for each in color
    ]
    result = _mixed(torch.cat([luma, *color], 1), TO_RGB)[..., :height, :width]
    return result.clamp(0, 255) / 255


def _mixed(planes: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    """B 3 H W, channels mixed by rows of the matrix."""
    return torch.einsum("oi,bihw->bohw", planes.new_tensor(matrix), planes)


def _tables(like: Tensor) -> tuple[Tensor, Tensor]:
    """Of luma and color, 8 x 8 each, by horizontal and vertical frequency."""
    color = like.new_full((BLOCK, BLOCK), 99.0)
    color[:4, :4] = like.new_tensor(CHROMA_CORNER)
    return like.new_tensor(LUMA_TABLE).T, color


def _coded(plane: Tensor, steps: Tensor) -> Tensor:
    """One plane, B 1 H W in 0..255, after rounding its cosine transform in steps."""
    frequencies = torch.arange(BLOCK, dtype=torch.float64)
    waves = torch.cos((2 * frequencies[:, None] + 1) * frequencies * math.pi / 16) / 2
    waves[:, 0] /= math.sqrt(2)
    waves = waves.to(plane)  # pixel, frequency; orthonormal
    blocks = plane.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK)).transpose(-2, -3) - MIDDLE
    found = waves.T @ blocks @ waves
    found = (found / steps).round() * steps
    blocks = (waves @ found @ waves.T) + MIDDLE
    return blocks.transpose(-2, -3).flatten(-4, -3).flatten(-2)
