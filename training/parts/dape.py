"""DAPE, SeeSR's first stage: a LoRA that makes the tagger RAM see through damage."""

from __future__ import annotations

from dataclasses import dataclass

from ..base import digest, model_file
from ..config import Config, path
from ..opened import Opened
from .common import begin, metadata, pairs_of, tagger_weights, without_samples


@dataclass(frozen=True)
class Model:
    ram: str = path("ram_swin_large_14m.pth")
    """The tagger, by path or by its name in models/restoration."""
    regularized: bool = True
    """Stochastic depth and dropout in the student, as published."""
    start_from: tuple[str, ...] = path(())
    """A published DAPE to go on from."""


def open_part(config: Config) -> Opened:
    """The LoRA with its data."""
    from ...tagger.trainable import DAPETrainable

    without_samples(config, "DAPE finds tags and restores nothing")
    chosen, pairs = config.model, pairs_of(config)
    rates = {} if chosen.regularized else dict.fromkeys(RATES, 0.0)
    part = DAPETrainable(tagger_weights(chosen.ram), **rates)
    begin(config, part)
    digests = {"ram": digest(model_file("restoration", chosen.ram, "model.ram"))}
    head = metadata(config, "tagger", kind="DAPE")
    # The published LoRA also has layers that the loss never reaches.
    return Opened(part, pairs, len(pairs), head, digests, some_idle=True)


RATES = ("depth_rate", "hidden_dropout", "attention_dropout")
