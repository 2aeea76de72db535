"""Areas of CONDITIONING: how a branch learns which part of the latent an entry shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

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


def tell_areas(
    executor: Callable[..., list[Tensor]],
    model: Any,
    conds: list[list[dict[str, Any]] | None],
    *args: Any,
    **kwargs: Any,
) -> list[Tensor]:
    """A wrapper of CALC_COND_BATCH: from here on the host hands every entry's area to the model
    call."""

    def told(cond: dict[str, Any]) -> dict[str, Any]:
        return {**cond, "model_conds": {**cond["model_conds"], AREAS_KEY: AreaCond()}}

    conds = [cond and [told(entry) for entry in cond] for cond in conds]
    return executor(model, conds, *args, **kwargs)
