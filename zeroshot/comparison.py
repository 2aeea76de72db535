"""What a guided picture is compared by when it is not compared pixel by pixel (GDP: Fei et al. 2023, arXiv
2304.01247): after a known degradation, or in a light that is fitted."""

from __future__ import annotations

import torch
from torch import Tensor

from .operators import Operator, measured, pulled_back


class Degraded:
    """The mean square of A u - y: what a degradation leaves of both."""

    def __init__(self, operator: Operator) -> None:
        """operator: for pictures in 0..1."""
        self.operator = operator

    def __call__(self, decoded: Tensor, target: Tensor, row: int) -> Tensor:
        """Its gradient in units of the difference of two pictures, of the shape of `decoded`.

        decoded: 1 3 H W in -1..1. target: the reference in -1..1, at that size or degraded. ValueError
        for any other size.
        """
        u = (decoded + 1) / 2
        seen = self.operator.degrade(u)
        y = measured((target + 1) / 2, self.operator, u, seen, "pixels")
        return 2 * pulled_back(seen - y, self.operator, u)

    def forget(self) -> None:
        """Nothing is kept."""


def light_step(
    u: Tensor, y: Tensor, factor: Tensor, offset: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the unknown light, y = f u + M, on L = mean((f u + M - y)^2).

    u, y: B C H W in 0..1. factor: B 1 1 1. offset: B 1 H W. Returns f (f u + M - y), which is dL/du
    without its 2 / N, and f and M after a gradient step of rate 1, the authors' rate.
    """
    left = factor * u + offset - y
    pixels = left[0].numel()
    slope = 2 * (left * u).sum((1, 2, 3), keepdim=True) / pixels
    return factor * left, factor - slope, offset - 2 * left.sum(1, keepdim=True) / pixels


class UnknownLight:
    """A picture taken too dark or too bright: how much is fitted while it is drawn, for each image by
    itself, from darkness (the authors start at noise of 0.01, which is as good as that).

    GDP moves the picture twice by the gradient; here that is the factor between 0..1 and -1..1."""

    def __init__(self) -> None:
        self.lights: dict[int, tuple[Tensor, Tensor]] = {}
        """By row of the batch, during a run."""

    def __call__(self, decoded: Tensor, target: Tensor, row: int) -> Tensor:
        """The gradient in units of the difference of two pictures, of the shape of `decoded`; fits the light.

        decoded, target: 1 3 H W in -1..1. ValueError for unequal sizes.
        """
        if decoded.shape[1:] != target.shape[1:]:
            (height, width), (tall, wide) = target.shape[-2:], decoded.shape[-2:]
            raise ValueError(
                f"The reference is {width}x{height}, the picture being sampled {wide}x{tall}. "
                "Give it the photo at the size that is sampled."
            )
        u, y = (decoded + 1) / 2, (target + 1) / 2
        start = (u.new_zeros(1, 1, 1, 1), torch.zeros_like(u[:, :1]))
        difference, *light = light_step(u, y, *self.lights.get(row, start))
        self.lights[row] = light[0], light[1]
        return difference

    def forget(self) -> None:
        """The light of a run that ended."""
        self.lights.clear()
