"""Attaching things to CONDITIONING so that the host carries them to every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.controlnet import ControlBase

from .tiles import Area

AREAS_KEY = "diffusion_restoration_areas"
"""In what the host hands to a control branch: one area (or None) for each chunk of the batch."""

Conditioning = list[list[Any]]


class AreaCond:
    """A model condition without a tensor: the host tells it the area of its entry just before
    each call, and so a control branch learns which part of the latent it sees."""

    def __init__(self, area: Area | None = None) -> None:
        self.area = area

    def process_cond(self, batch_size: int, area: list[int] | None = None, **_: Any) -> AreaCond:
        return AreaCond(None if area is None else (area[0], area[1], area[2], area[3]))

    def can_concat(self, other: object) -> bool:
        return isinstance(other, AreaCond)

    def concat(self, others: list[AreaCond]) -> tuple[Area | None, ...]:
        return (self.area, *(other.area for other in others))

    def size(self) -> list[int]:
        return [1]


def attach_control(
    conditionings: list[Conditioning], make: Callable[[], ControlBase]
) -> list[Conditioning]:
    """Copies of the conditionings with a control behind whatever control each entry has.

    Entries with the same chain share one object: only then does the host run conditional and
    unconditional rows as one batch.
    """
    made: dict[ControlBase | None, ControlBase] = {}

    def controlled(options: dict[str, Any]) -> dict[str, Any]:
        previous = options.get("control")
        if previous not in made:
            made[previous] = make().set_previous_controlnet(previous)
        return {
            **options,
            "control": made[previous],
            "control_apply_to_uncond": False,
            "model_conds": {**options.get("model_conds", {}), AREAS_KEY: AreaCond()},
        }

    return [
        [[text, controlled(options)] for text, options in conditioning]
        for conditioning in conditionings
    ]
