"""The light models that come with the pack: a small restoring network, and two that enlarge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...common.state_dict import CheckpointError
from ...stage1.keys import TRAINED_ON
from ..config import Config, path
from ..errors import TrainingError
from ..opened import Opened
from ..part import Batch
from ..samples import restorer
from .common import metadata, pairs_of


@dataclass(frozen=True)
class Model:
    network: Literal["small", "large", "x2", "x4"] = "small"
    start_from: str = path()
    """Weights to go on from: of the same width, also with fewer blocks or of another factor."""


def open_part(config: Config) -> Opened:
    """The network with its data. ComfyUI is not asked for anything."""
    from ..damage import LIGHT
    from ..stage1.network import ENLARGING
    from ..stage1.trainable import FILE, LightTrainable

    name, damage = config.model.network, config.data.degradation
    factor = ENLARGING.get(name, 1)
    if LIGHT.get(damage, 1) != factor:
        raise TrainingError(
            f"data.degradation is {damage!r} and model.network {name!r}: one shrinks pictures to "
            f"1/{LIGHT.get(damage, 1)}, the other enlarges by {factor}. Choose two that fit."
        )
    pairs = pairs_of(config)
    part = LightTrainable(name, config.run.seed)
    if config.model.start_from:
        try:
            part.load_published({FILE: _weights(Path(config.model.start_from))})
        except ValueError as error:
            raise TrainingError(str(error)) from error
    head = metadata(config, "stage1", network=name, trained_on=TRAINED_ON)

    def restored(batch: Batch) -> Tensor:
        return part.network(batch["lq"].to(next(part.parameters()).device))

    restore = restorer(config, restored)
    return Opened(part, pairs, len(pairs), head, restore=restore, publish=part.published_half)


def _weights(file: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"model.start_from = {file} cannot be read ({error}).") from error
