"""What a file of weights turns out to be: each method's keys.py recognizes its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .state_dict import CONTROL_PREFIX, UNET_PREFIX, Layout, StateDict

Part = Literal["unet", "control network", "whole"]


@dataclass(frozen=True)
class Difference:
    """How weights differ from a layout; names sorted."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)


def difference(weights: Mapping[str, Any], layout: Layout) -> Difference:
    """What separates weights from their layout."""
    return Difference(
        tuple(sorted(layout.keys() - weights.keys())),
        tuple(sorted(weights.keys() - layout.keys())),
        tuple(sorted(k for k in layout if k in weights and tuple(weights[k].shape) != layout[k])),
    )


@dataclass(frozen=True)
class Found:
    """A file of one of the methods."""

    method: str
    version: str
    what: str
    """In words that go after "this is"."""
    part: Part
    """`unet` and `control network` make a pair."""
    folder: str
    """The folder below ComfyUI's models folder, where a loader of ours looks for it; empty: it stays
    in the pack."""
    weights: StateDict
    """What a loader uses of it, under the names that a converted file has."""
    difference: Difference = field(default_factory=Difference)
    not_finite: tuple[str, ...] = ()
    """Weights with NaN or infinity in them, once somebody has looked."""
    notes: tuple[str, ...] = ()
    problem: str = ""
    """A sentence of the loader's where there is no table to compare with."""

    @property
    def complete(self) -> bool:
        return not self.difference and not self.not_finite and not self.problem


Recognize = Callable[[StateDict, str, Mapping[str, str]], Found | None]
"""(weights, the file's name, its metadata) -> what it is; None: none of the method's."""


def in_pair(unet: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:
    """Both networks' weights, or shapes, under the names of a converted file."""
    return {
        **{f"{UNET_PREFIX}{key}": value for key, value in unet.items()},
        **{f"{CONTROL_PREFIX}{key}": value for key, value in control.items()},
    }
