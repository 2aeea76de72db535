"""The damage of a run: the pack's degradations, named as in the node, on one picture at a time; and
those of the light models, which are no node's.

Those stay apart from `common/degradation.py`, which is what the papers publish, draw by draw: it has
no camera noise, no lens blur, no grain that belongs to the picture and no pictures that are to stay
as they are, and with them its recorded draws would be others.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from .. import registry
from ..common.degradation import Preset, training_pair
from ..common.jpeg import jpeg_round_trip
from .data.pairs import Damage, gray
from .errors import TrainingError
from .stage1.network import ENLARGING

LIGHT = {"light": 1, **{f"light_{name}": factor for name, factor in ENLARGING.items()}}
"""Of the light models: name -> factor. The crop is larger than what is learned from: by the area that
the JPEG grid moves in, or to be shrunk a little first."""


def damage_of(name: str) -> Damage | None:
    """What `data.degradation` means; None: no damaged partner is made. TrainingError: unknown."""
    if name == "none":
        return None
    if name == "gray":
        return gray
    if name in LIGHT:
        return functools.partial(_light, factor=LIGHT[name])
    presets = registry.presets()
    if name not in presets:
        raise TrainingError(
            f"data.degradation is {name!r}; there are none, gray, {', '.join([*LIGHT, *presets])}."
        )
    return functools.partial(_damaged, preset=presets[name])


def _damaged(pixels: Tensor, seed: int, preset: Preset) -> tuple[Tensor, Tensor]:
    target, damaged = training_pair(pixels[None], preset, seed, jpeg_round_trip)
    return target[0], damaged[0]


def _light(pixels: Tensor, seed: int, factor: int) -> tuple[Tensor, Tensor]:
    from .stage1.degrade import MARGIN, training_pair
    from .stage1.shrink import enlarging_pair

    picture = (pixels * 255).round().byte().movedim(0, -1).numpy()
    rng, side = np.random.default_rng(seed), min(picture.shape[:2])
    if factor == 1:
        damaged, target = training_pair(rng, picture, side - MARGIN)
    else:
        damaged, target = enlarging_pair(rng, picture, side * 2 // 3 // factor, factor)
    return _tensor(target), _tensor(damaged)


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0).float() / 255
