"""The damage of a run: the pack's degradations, named as in the node, on one picture at a time."""

from __future__ import annotations

import functools

from torch import Tensor

from .. import registry
from ..common.degradation import Preset, training_pair
from ..common.jpeg import jpeg_round_trip
from .data.pairs import Damage, gray
from .errors import TrainingError


def damage_of(name: str) -> Damage | None:
    """What `data.degradation` means; None: no damaged partner is made. TrainingError: unknown."""
    if name == "none":
        return None
    if name == "gray":
        return gray
    presets = registry.presets()
    if name not in presets:
        raise TrainingError(
            f"data.degradation is {name!r}; there are none, gray, {', '.join(presets)}."
        )
    return functools.partial(_damaged, preset=presets[name])


def _damaged(pixels: Tensor, seed: int, preset: Preset) -> tuple[Tensor, Tensor]:
    target, damaged = training_pair(pixels[None], preset, seed, jpeg_round_trip)
    return target[0], damaged[0]
