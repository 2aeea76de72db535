"""A JPEG without a file: color, halved chroma, blocks of cosines, rounding by the tables of a quality."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

BLOCK = 8
LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)  # fmt: skip
"""Annex K of the standard (ITU T.81)."""
TO_YCC = ((0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813))
FROM_YCC = (
    (1.0, -3.68199903e-05, 1.40198758),
    (1.0, -0.344113281, -0.714103821),
    (1.0, 1.77197812, -1.34583413e-04),
)
"""To the digits of the authors' coder (bahjat-kawar/ddrm-jpeg)."""


def tables(quality: int) -> tuple[Tensor, Tensor]:
    """Luma's and chroma's at a quality of 1..100, 8 x 8, float64."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled = (
        ((torch.tensor(table).double() * scale + 50) / 100).floor().clamp(1, 255)
        for table in (LUMA_TABLE, CHROMA_TABLE)
    )
    luma, chroma = scaled
    return luma, chroma


class JpegCoder:
    """Pictures B 3 H W in 0..1, any size: the border repeats to whole blocks. No clipping and no
    rounding to 8 bits."""

    def __init__(self, quality: int, mean_chroma: bool = True) -> None:
        self.luma, self.chroma = tables(quality)
        self.mean_chroma = mean_chroma

    def encode(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """(luma B 1 H W, chroma B 2 H/2 W/2), whole numbers; sides in multiples of 16."""
        matrix = picture.new_tensor(TO_YCC)
        planes = torch.einsum("kc,bchw->bkhw", matrix, 255 * picture)
        luma, chroma = planes[:, :1] - 128, planes[:, 1:]  # chroma: + 128 - 128
        chroma = avg_pool2d(chroma, 2) if self.mean_chroma else chroma[..., ::2, ::2]
        return _quantized(luma, self.luma), _quantized(chroma, self.chroma)

    def decode(self, luma: Tensor, chroma: Tensor) -> Tensor:
        """B 3 H W, about 0..1."""
        luma, chroma = _restored(luma, self.luma) + 128, _restored(chroma, self.chroma)
        chroma = chroma.repeat_interleave(2, -1).repeat_interleave(2, -2)
        matrix = luma.new_tensor(FROM_YCC)
        return torch.einsum("ck,bkhw->bchw", matrix, torch.cat([luma, chroma], 1)) / 255

    def round_trip(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        right, bottom = -width % (2 * BLOCK), -height % (2 * BLOCK)
        whole = pad(picture, (0, right, 0, bottom), mode="replicate")
        return self.decode(*self.encode(whole))[..., :height, :width]


def _cosines(like: Tensor) -> Tensor:
    """The orthonormal DCT-II of a block's side, 8 x 8."""
    k, n = torch.arange(BLOCK)[:, None].double(), torch.arange(BLOCK)
    basis = (math.pi * k * (n + 0.5) / BLOCK).cos() * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    return basis.to(like)


def _blocks(plane: Tensor) -> Tensor:
    """B C H W -> B C H/8 W/8 8 8."""
    return plane.unfold(-2, BLOCK, BLOCK).unfold(-2, BLOCK, BLOCK)


def _plane(blocks: Tensor) -> Tensor:
    batch, channels, rows, columns, *_ = blocks.shape
    return blocks.transpose(-3, -2).reshape(batch, channels, BLOCK * rows, BLOCK * columns)


def _quantized(plane: Tensor, table: Tensor) -> Tensor:
    basis = _cosines(plane)
    return _plane((basis @ _blocks(plane) @ basis.mT / table.to(plane)).round())


def _restored(code: Tensor, table: Tensor) -> Tensor:
    basis = _cosines(code)
    return _plane(basis.mT @ (_blocks(code) * table.to(code)) @ basis)
