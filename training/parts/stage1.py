"""DiffBIR's stage 1: a SwinIR from damaged to clean pictures, from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from ...common.resample import pad_to, round_up
from ..config import Config, path
from ..opened import Opened
from ..part import Batch
from ..samples import restorer
from .common import begin, metadata, pairs_of

MULTIPLE = 64


@dataclass(frozen=True)
class Model:
    start_from: tuple[str, ...] = path(())
    """A published stage 1 to go on from."""


def open_part(config: Config) -> Opened:
    """The network with its data."""
    from ...stage1.trainable import CleanerTrainable

    pairs = pairs_of(config)
    part = CleanerTrainable(seed=config.run.seed)
    begin(config, part)
    head = metadata(config, "stage1")
    return Opened(part, pairs, len(pairs), head, restore=restorer(config, partial(_run, part)))


def _run(part: Any, batch: Batch) -> Tensor:
    """Padded by zeros to what the unshuffling and the windows need, as its authors do."""
    pixels = batch["lq"]
    height, width = pixels.shape[-2:]
    device = next(part.parameters()).device
    padded = pad_to(
        pixels.to(device), round_up(height, MULTIPLE), round_up(width, MULTIPLE), mode="zeros"
    )
    return part.network(padded)[..., :height, :width]
