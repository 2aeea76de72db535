"""Known degradations and their pseudo-inverses: DDNM's projection (Wang et al. 2023)."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor
from torch.nn.functional import avg_pool2d

Degradation = Literal["average_pool", "inpaint", "grayscale"]


class Operator(Protocol):
    """A linear degradation A of B C H W, any size, with A A+ A = A."""

    def degrade(self, picture: Tensor) -> Tensor:
        """A x: the measurement."""
        ...

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        """A+ y, of the shape of `like`."""
        ...


class AveragePool:
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


class Grayscale:
    """The mean over the channels; its inverse repeats it."""

    def degrade(self, picture: Tensor) -> Tensor:
        return picture.mean(1, keepdim=True)

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        return measurement.expand_as(like)


class Identity:
    """Nothing is lost: with a mask over the correction this is inpainting, whose A and A+ are
    both the mask of what is known."""

    def degrade(self, picture: Tensor) -> Tensor:
        return picture

    def invert(self, measurement: Tensor, like: Tensor) -> Tensor:
        return measurement


def operator_for(degradation: Degradation, scale: int) -> Operator:
    """scale: of average_pool alone."""
    match degradation:
        case "average_pool":
            return AveragePool(scale)
        case "grayscale":
            return Grayscale()
        case "inpaint":
            return Identity()


def project(x0: Tensor, target: Tensor, operator: Operator, weight: Tensor | float = 1.0) -> Tensor:
    """x0 - weight A+ (A x0 - A target): the range space from the target, the null space from x0
    (eq. 13). weight: 0 leaves x0, 1 meets the measurement exactly; a number or B 1 H W.

    x0, target: B C H W of one size, any range.
    """
    error = operator.degrade(x0) - operator.degrade(target)
    return x0 - weight * operator.invert(error, x0)
