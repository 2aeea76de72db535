"""What happened to a picture, said once: KNOWN_DEGRADATION, a chain of steps in the order in which they
happened, and the operator that it makes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from .axes import Average, Axis, Bicubic, Blur, Product
from .operators import (
    AveragePool,
    Chain,
    Grayscale,
    Identity,
    Jpeg,
    Mask,
    Operator,
    Separable,
)

Kind = Literal["average_pool", "bicubic", "gaussian_blur", "grayscale", "luma", "inpaint", "jpeg"]
LUMA = (0.299, 0.587, 0.114)
"""What software makes black and white pictures with (ITU-R BT.601)."""
ON_CELLS = ("average_pool", "inpaint")
"""Kinds that also mean something for the cells of a latent, though not what they mean for pixels."""
GRAYS = {"grayscale": None, "luma": LUMA}


@dataclass(frozen=True, eq=False)
class KnownDegradation:
    """One step of a chain."""

    kind: Kind
    scale: int = 4
    """Of average_pool and bicubic."""
    blur_sigma: float = 2.0
    """Of gaussian_blur, in pixels."""
    quality: int = 75
    """Of jpeg."""
    mask: Tensor | None = None
    """Of inpaint: B H W, 1 where known, any resolution."""
    before: KnownDegradation | None = None

    def steps(self) -> Iterator[KnownDegradation]:
        """From the first that happened."""
        if self.before is not None:
            yield from self.before.steps()
        yield self

    def __str__(self) -> str:
        return ", then ".join(step._words for step in self.steps())

    @property
    def _words(self) -> str:
        match self.kind:
            case "average_pool" | "bicubic":
                return f"{self.kind} / {self.scale}"
            case "gaussian_blur":
                return f"gaussian_blur of {self.blur_sigma:g}"
            case "jpeg":
                return f"jpeg at {self.quality}"
        return self.kind

    @property
    def needs_pixels(self) -> bool:
        return any(step.kind not in ON_CELLS for step in self.steps())

    def check(self) -> None:
        """ValueError, one sentence, for a chain that cannot have happened so or has no inverse."""
        steps = list(self.steps())
        for number, step in enumerate(steps):
            if step.kind == "inpaint" and step.mask is None:
                raise ValueError(
                    "A known degradation of the kind inpaint needs `mask`: white where the picture is "
                    "known. Connect one, such as the painted hole through Invert Mask."
                )
            if step.kind in ("inpaint", "jpeg") and number + 1 < len(steps):
                what = "a mask" if step.kind == "inpaint" else "JPEG"
                raise ValueError(
                    f"In `{self}` {what} comes before {steps[number + 1].kind}; {what} comes last, for "
                    "it is of the picture that you have. Put it at the end of the chain."
                )
        grays = [step for step in steps if step.kind in GRAYS]
        if len(grays) > 1:
            raise ValueError(f"`{self}` becomes gray twice. Leave one of the two out.")

    def operator(self) -> Operator:
        """Of the whole chain, at any size. ValueError as `check`."""
        self.check()
        *steps, last = self.steps()
        match last.kind:
            case "inpaint":
                assert last.mask is not None
                return _behind(steps, Mask(last.mask[:, None]))
            case "jpeg":
                return _behind(steps, Jpeg(last.quality))
        return _linear([*steps, last])


def _behind(steps: list[KnownDegradation], last: Operator) -> Operator:
    return Chain(_linear(steps), last) if steps else last


def _linear(steps: list[KnownDegradation]) -> Operator:
    gray = next((Grayscale(GRAYS[step.kind]) for step in steps if step.kind in GRAYS), None)
    axes = [axis for step in steps if (axis := _axis(step)) is not None]
    if not axes:
        return gray or Identity()
    if len(axes) == 1 and gray is None and isinstance(axes[0], Average):
        return AveragePool(axes[0].scale)  # which also takes cut blocks
    return Separable(axes[0] if len(axes) == 1 else Product(tuple(axes)), gray)


def _axis(step: KnownDegradation) -> Axis | None:
    match step.kind:
        case "average_pool":
            return Average(step.scale)
        case "bicubic":
            return Bicubic(step.scale)
        case "gaussian_blur":
            return Blur(step.blur_sigma, 2 * math.ceil(3 * step.blur_sigma) + 1)
    return None


def check_known(value: object, name: str = "known_degradation") -> KnownDegradation:
    """A socket's value; ValueError for anything else."""
    if not isinstance(value, KnownDegradation):
        raise ValueError(
            f"`{name}` is a {type(value).__name__}. Connect the node Known Degradation."
        )
    return value
