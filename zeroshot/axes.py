"""What a separable degradation does along one axis: a matrix, and its singular value decomposition."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor

ZERO_BELOW = 0.03
"""Singular values of an axis that count as zero, in A as well as in A+, as all authors have it: A+ of a
blur would multiply noise by more than that."""
CUBIC = -0.5
"""Keys' constant: that of MATLAB and of Pillow."""
KEPT = 8
"""Decompositions that are remembered: one for each axis of a picture and length."""

Boundary = Literal["symmetric", "zero"]


class Axis(Protocol):
    """Hashable, without tensors."""

    def matrix(self, length: int) -> Tensor:
        """n x length, float64. ValueError for a length that it cannot take."""
        ...


@dataclass(frozen=True)
class Factors:
    """K = left diag(values) right, with values below `ZERO_BELOW` set to zero."""

    left: Tensor
    values: Tensor
    right: Tensor

    @property
    def forward(self) -> Tensor:
        return self.left * self.values @ self.right

    @property
    def inverse(self) -> Tensor:
        inverted = torch.where(self.values > 0, 1 / self.values, 0.0)
        return self.right.mT * inverted @ self.left.mT

    def to(self, like: Tensor) -> Factors:
        return Factors(*(part.to(like) for part in (self.left, self.values, self.right)))


@lru_cache(maxsize=KEPT)
def factors(axis: Axis, length: int) -> Factors:
    """Of an axis at a length, in float64 on the CPU: in single precision, values near zero fall on
    either side of it."""
    if isinstance(axis, Blur) and axis.boundary == "symmetric":
        left, values, right = axis.cosines(length)
    else:
        left, values, right = torch.linalg.svd(axis.matrix(length), full_matrices=False)
    return Factors(left, torch.where(values < ZERO_BELOW, 0.0, values), right)


def reflected(index: Tensor, length: int) -> Tensor:
    """Half-sample symmetric: -1 is 0 again, `length` is the last one again."""
    index = index % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


@dataclass(frozen=True)
class Bicubic:
    """Antialiased bicubic shrinking by a whole factor, borders half-sample symmetric: MATLAB's
    imresize."""

    scale: int

    def matrix(self, length: int) -> Tensor:
        if length % self.scale:
            raise ValueError(
                f"A side of {length} is no multiple of {self.scale}: bicubic shrinking by {self.scale} "
                "needs one. Crop the picture, or choose average_pool, which allows cut blocks."
            )
        out, scale = length // self.scale, self.scale
        rows = torch.arange(out)[:, None]
        taps = rows * scale + scale // 2 + torch.arange(-2 * scale - 1, 2 * scale + 1)
        distance = ((taps + 0.5) - (rows + 0.5) * scale) / scale
        weights = cubic(distance.double())
        weights /= weights.sum(1, keepdim=True)
        return torch.zeros(out, length, dtype=torch.float64).scatter_add_(
            1, reflected(taps, length), weights
        )


def cubic(x: Tensor) -> Tensor:
    """Keys' kernel."""
    x = x.abs()
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = CUBIC * (((x - 5) * x + 8) * x - 4)
    return torch.where(x <= 1, near, torch.where(x < 2, far, 0.0))


@dataclass(frozen=True)
class Average:
    """The mean of whole blocks, for what follows it in a chain."""

    scale: int

    def matrix(self, length: int) -> Tensor:
        if length % self.scale:
            raise ValueError(
                f"A side of {length} is no multiple of {self.scale}: in a chain, blocks of average_pool "
                "must be whole. Crop the picture."
            )
        blocks = torch.eye(length // self.scale, dtype=torch.float64)
        return blocks.repeat_interleave(self.scale, 1) / self.scale


@dataclass(frozen=True)
class Blur:
    """A Gaussian of `taps` samples."""

    sigma: float
    taps: int
    boundary: Boundary = "symmetric"
    """`zero`: black outside of the picture, as the authors' matrix has it; photos have none."""

    @property
    def kernel(self) -> Tensor:
        offsets = torch.arange(self.taps, dtype=torch.float64) - (self.taps - 1) / 2
        weights = (-offsets.square() / (2 * self.sigma**2)).exp()
        return weights / weights.sum()

    @property
    def offsets(self) -> Tensor:
        return torch.arange(self.taps) - self.taps // 2

    def matrix(self, length: int) -> Tensor:
        columns = torch.arange(length)[:, None] + self.offsets
        weights = self.kernel.expand(length, -1)
        if self.boundary == "zero":
            weights = weights * ((columns >= 0) & (columns < length))
            columns = columns.clamp(0, length - 1)
        else:
            columns = reflected(columns, length)
        square = torch.zeros(length, length, dtype=torch.float64)
        return square.scatter_add_(1, columns, weights)

    def cosines(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """(left, values, right) at symmetric borders, which the DCT-II diagonalizes at any length."""
        k, n = torch.arange(length, dtype=torch.float64)[:, None], torch.arange(length)
        basis = (math.pi * k * (n + 0.5) / length).cos() * math.sqrt(2 / length)
        basis[0] /= math.sqrt(2)
        eigenvalues = (self.kernel * (math.pi * k * self.offsets / length).cos()).sum(1)
        signs = torch.where(eigenvalues < 0, -1.0, 1.0).double()
        return basis.mT * signs, eigenvalues.abs(), basis


@dataclass(frozen=True)
class Product:
    """Several, in the order in which they happened."""

    parts: tuple[Axis, ...]

    def matrix(self, length: int) -> Tensor:
        product = torch.eye(length, dtype=torch.float64)
        for part in self.parts:
            product = part.matrix(product.shape[0]) @ product
        return product
