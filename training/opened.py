"""A part that is ready to train: what `parts/` make of a configuration, and the loop takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import Dataset

from ..common.state_dict import StateDict
from .part import Part

Restore = Callable[[Path], str]
"""Fills a folder with restored pictures beside their damaged and clean ones; returns a line about
them."""


@dataclass(frozen=True)
class Opened:
    part: Part
    dataset: Dataset
    pictures: int
    metadata: Mapping[str, str]
    """Of every exported file, beside the step: method, variant ..."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Frozen files by their role: sha256."""
    restore: Restore | None = None
    publish: Callable[[], Mapping[str, StateDict]] | None = None
    """What is exported, by file; None: the part's `published_state`."""
    some_idle: bool = False
    """Some trained parameters get no gradient, as the authors' also do."""
