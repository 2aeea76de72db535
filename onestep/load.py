"""From a published file to ONESTEP_MODEL."""

from __future__ import annotations

from dataclasses import dataclass

from ..host.folders import KIND
from ..host.loading import read_file
from .config import SD2, TITLES, OneStepConfig
from .keys import OneStepWeights, read


@dataclass(frozen=True)
class OneStepModel:
    """ONESTEP_MODEL: what a file adds to Stable Diffusion 2.1 base."""

    weights: OneStepWeights
    config: OneStepConfig
    file: str

    @property
    def title(self) -> str:
        return TITLES[self.weights.kind]


def load_onestep(name: str, config: OneStepConfig = SD2) -> OneStepModel:
    """A file of the folder `restoration`. Raises CheckpointError."""
    return OneStepModel(read(read_file(KIND, name), name, config), config, name)
