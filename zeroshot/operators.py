"""Known degradations, their pseudo-inverses and, where they have one, their spectral form: A = U S V^T
(Kawar et al. 2022, arXiv 2201.11793; Wang et al. 2023, arXiv 2212.00490)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ..common.images import match_batch
from .axes import Axis, Factors, factors
from .jpeg import JpegCoder

Degradation = Literal["average_pool", "inpaint", "grayscale"]
OfValue = Callable[[Tensor], Tensor]
"""A function of singular values, elementwise."""


class Operator(Protocol):
    """A degradation A of B C H W, any size, with A A+ A = A."""

    def degrade(self, picture: Tensor) -> Tensor:
        """A x: the measurement."""
        ...

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        """A+ y, of the shape of `like`."""
        ...


class Spectral(ABC):
    """A linear operator whose singular vectors are at hand. Coordinates are those that it measures;
    the null space is what `filter` by ones leaves out, and needs no basis."""

    @abstractmethod
    def degrade(self, picture: Tensor) -> Tensor: ...

    @abstractmethod
    def invert(self, measurement: Tensor, like: Tensor) -> Tensor: ...

    @abstractmethod
    def filter(self, picture: Tensor, of: OfValue) -> Tensor:
        """V of(S) V^T x."""
        ...

    @abstractmethod
    def filter_measured(self, measurement: Tensor, of: OfValue, like: Tensor) -> Tensor:
        """V of(S) U^T y, of the shape of `like`."""
        ...

    @abstractmethod
    def spectrum(self, like: Tensor) -> Tensor:
        """The singular value of every measured coordinate of one picture of the shape of `like`."""
        ...


class Projector(Spectral):
    """An operator with A+A diagonal in the picture's own cells, up to one value for each: then V and U
    are never needed."""

    @abstractmethod
    def values(self, like: Tensor) -> Tensor:
        """The singular value that each cell of `like` belongs to; broadcasts to it."""
        ...

    def filter(self, picture: Tensor, of: OfValue) -> Tensor:
        return of(self.values(picture)) * self.invert(self.degrade(picture), picture)

    def filter_measured(self, measurement: Tensor, of: OfValue, like: Tensor) -> Tensor:
        value = self.values(like)
        return of(value) * value * self.invert(measurement, like)

    def spectrum(self, like: Tensor) -> Tensor:
        return self.degrade(self.values(like).expand_as(like))[:1]


class AveragePool(Projector):
    """The mean of blocks of scale x scale. Blocks that an edge cuts are the mean of what they
    have, so every size has an exact inverse: the mean, repeated over its block."""

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def degrade(self, picture: Tensor) -> Tensor:
        return avg_pool2d(picture, self.scale, ceil_mode=True, count_include_pad=False)

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        rows = measurement.repeat_interleave(self.scale, -2)[..., :height, :]
        return rows.repeat_interleave(self.scale, -1)[..., :width]

    def values(self, like: Tensor) -> Tensor:
        ones = torch.ones_like(like[:1, :1])
        cells = avg_pool2d(ones, self.scale, ceil_mode=True, divisor_override=1)
        return self.invert(cells.rsqrt(), ones)


class Grayscale(Projector):
    """One channel of all, weighted."""

    def __init__(self, weights: tuple[float, ...] | None = None) -> None:
        """weights: one for each channel, sum 1; None: the mean."""
        self.weights = weights

    def _of(self, picture: Tensor) -> Tensor:
        channels = picture.shape[1]
        weights = self.weights or (1 / channels,) * channels
        if len(weights) != channels:
            raise ValueError(
                f"A picture of {channels} channels has no such gray: it is made of {len(weights)}. "
                "Connect `image` and `vae`, so that pixels are compared."
            )
        return torch.tensor(weights, dtype=picture.dtype, device=picture.device).view(1, -1, 1, 1)

    def degrade(self, picture: Tensor) -> Tensor:
        if self.weights is None:
            return picture.mean(1, keepdim=True)
        return (self._of(picture) * picture).sum(1, keepdim=True)

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        if self.weights is None:
            return measurement.expand_as(like)
        weights = self._of(like)
        return measurement * (weights / weights.square().sum())

    def values(self, like: Tensor) -> Tensor:
        return self._of(like).square().sum().sqrt().reshape(1, 1, 1, 1)

    def spectrum(self, like: Tensor) -> Tensor:
        return self.values(like).expand(1, 1, *like.shape[-2:])


class Identity(Projector):
    """Nothing is lost: with a mask over the correction this is inpainting, whose A and A+ are
    both the mask of what is known. With noise it is denoising."""

    def degrade(self, picture: Tensor) -> Tensor:
        return picture

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        return measurement

    def values(self, like: Tensor) -> Tensor:
        return like.new_ones(1, 1, 1, 1)


class Mask(Projector):
    """What is known of a picture, cell by cell."""

    def __init__(self, known: Tensor) -> None:
        """known: B 1 H W of any resolution; above a half is known."""
        self.known = known

    def _at(self, picture: Tensor) -> Tensor:
        known = self.known.to(picture)
        if known.shape[-2:] != picture.shape[-2:]:
            known = interpolate(known, picture.shape[-2:], mode="area")
        return match_batch((known > 0.5).to(picture), picture.shape[0], "mask")

    def degrade(self, picture: Tensor) -> Tensor:
        return self._at(picture) * picture

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        return self._at(measurement) * measurement

    def values(self, like: Tensor) -> Tensor:
        return like.new_ones(1, 1, 1, 1)


class Separable(Spectral):
    """K_h X K_w^T: rows and columns by themselves, each by a small matrix with its own singular value
    decomposition (`axes`)."""

    def __init__(self, axis: Axis, gray: Grayscale | None = None) -> None:
        """axis: of rows and of columns alike. gray: the channels become one as well."""
        self.axis, self.gray = axis, gray or Identity()

    def _of(self, like: Tensor) -> tuple[Factors, Factors]:
        rows, columns = (factors(self.axis, side) for side in like.shape[-2:])
        return rows.to(like), columns.to(like)

    def _values(self, like: Tensor) -> Tensor:
        rows, columns = self._of(like)
        return torch.outer(rows.values, columns.values) * self.gray.values(like)

    def degrade(self, picture: Tensor) -> Tensor:
        rows, columns = self._of(picture)
        return rows.forward @ self.gray.degrade(picture) @ columns.forward.mT

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        rows, columns = self._of(like)
        return self.gray.invert(rows.inverse @ measurement @ columns.inverse.mT, like)

    def _back(self, coordinates: Tensor, like: Tensor) -> Tensor:
        """V of coordinates; of gray, a unit of one stands for w / |w|."""
        rows, columns = self._of(like)
        spread = rows.right.mT @ coordinates @ columns.right
        return self.gray.filter_measured(spread, torch.ones_like, like)

    def filter(self, picture: Tensor, of: OfValue) -> Tensor:
        rows, columns = self._of(picture)
        value = self.gray.values(picture)
        inside = rows.right @ self.gray.degrade(picture) @ columns.right.mT / value
        return self._back(of(self._values(picture)) * inside, picture)

    def filter_measured(self, measurement: Tensor, of: OfValue, like: Tensor) -> Tensor:
        rows, columns = self._of(like)
        inside = rows.left.mT @ measurement @ columns.left
        return self._back(of(self._values(like)) * inside, like)

    def spectrum(self, like: Tensor) -> Tensor:
        channels = self.gray.degrade(like).shape[1]
        values = self._values(like).reshape(1, 1, *self._values(like).shape[-2:])
        return values.expand(1, channels, -1, -1)


class Jpeg:
    """Written and read as a JPEG of a quality, without a file (Kawar et al. 2022, arXiv 2209.11888): not
    linear, and A A+ A = A holds as well as rounding does. Pictures in 0..1."""

    def __init__(self, quality: int, mean_chroma: bool = True) -> None:
        """mean_chroma: halved color is the mean of four pixels, as in files; else the first of them, as
        the authors have it."""
        self.coder = JpegCoder(quality, mean_chroma)

    def degrade(self, picture: Tensor) -> Tensor:
        """decode(encode(x)): the measurement is the picture that the file holds."""
        return self.coder.round_trip(picture)

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        return measurement


class Chain:
    """A2 A1, without a spectral form."""

    def __init__(self, first: Operator, then: Operator) -> None:
        self.first, self.then = first, then

    def degrade(self, picture: Tensor) -> Tensor:
        return self.then.degrade(self.first.degrade(picture))

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        between = self.first.degrade(like)
        return self.first.invert(self.then.invert(measurement, between), like)


def operator_for(degradation: Degradation, scale: int) -> Operator:
    """scale: of average_pool alone."""
    match degradation:
        case "average_pool":
            return AveragePool(scale)
        case "grayscale":
            return Grayscale()
        case "inpaint":
            return Identity()


def pulled_back(error: Tensor, operator: Operator, like: Tensor) -> Tensor:
    """What an error of the measurement says of the picture, for a gradient step: A+ e, which is A^T e for
    all that measures every direction alike. Where it does not (a blur) A+ would magnify noise: there it
    is A^T e over the largest singular value squared. Of the shape of `like`."""
    match operator:
        case Chain(first=first, then=then):
            between = first.degrade(like)
            return pulled_back(pulled_back(error, then, between), first, like)
        case Separable():
            return operator.filter_measured(error, lambda s: s / s.max().square(), like)
    return operator.invert(error, like)


def measured(
    reference: Tensor, operator: Operator, like: Tensor, seen: Tensor, unit: str
) -> Tensor:
    """y of a reference, as the operator gives one of a picture like `like`.

    reference: B C h w at the size of `like` or of the measurement; one row serves all. At full size it
    stands for the small one that it was enlarged from; where the size stays it is the damaged picture
    itself, which must not be blurred twice. seen: A `like`. unit: what a side is counted in.
    ValueError for any other size.
    """
    if reference.shape[1:] not in (like.shape[1:], seen.shape[1:]):
        (channels, height, width), (_, low, narrow) = like.shape[1:], seen.shape[1:]
        small = f", or the small one, {narrow}x{low}" if (low, narrow) < (height, width) else ""
        raise ValueError(
            f"The reference is {reference.shape[-1]}x{reference.shape[-2]} {unit} with "
            f"{reference.shape[1]} channels, the picture being sampled {width}x{height} with "
            f"{channels}. Give it a reference of that size{small}."
        )
    reference = match_batch(reference, like.shape[0], "reference").to(like)
    if seen.shape[-2:] == like.shape[-2:]:
        return _harmless(operator).degrade(reference)
    return reference if reference.shape == seen.shape else operator.degrade(reference)


def _harmless(operator: Operator) -> Operator:
    """Of what keeps the size, the part that changes nothing when it happens again: all but blur."""
    match operator:
        case Chain(first=first, then=then):
            return Chain(_harmless(first), _harmless(then))
        case Separable(gray=gray):
            return gray
    return operator


def project(x0: Tensor, target: Tensor, operator: Operator, weight: Tensor | float = 1.0) -> Tensor:
    """x0 - weight A+ (A x0 - A target): the range space from the target, the null space from x0
    (eq. 13). weight: 0 leaves x0, 1 meets the measurement exactly; a number or B 1 H W.

    x0, target: B C H W of one size, any range.
    """
    error = operator.degrade(x0) - operator.degrade(target)
    return x0 - weight * operator.invert(error, x0)
