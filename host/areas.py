"""Areas of CONDITIONING: how a branch learns which part of the latent an entry shows."""

from __future__ import annotations

from typing import Any

from .view import Area

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
