"""What the inversion of a picture leaves for the injection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from .inversion import Convention, inversion_steps, stride

FeatureMode = Literal["cpu_fp16", "cpu_fp32", "lockstep"]


@dataclass(frozen=True, eq=False)
class StyleFeatures:
    """What the inversion of a picture leaves, all of it on the CPU."""

    convention: Convention
    steps: int
    layers: tuple[int, ...]
    table: Tensor
    """sigma of every timestep of the model that was inverted."""
    end: Tensor
    """B 4 h w: z at the noisiest level."""
    hidden: dict[int, dict[int, Tensor]]
    """By timestep and layer, B N C: what the self-attention saw. Empty in lockstep."""
    inputs: dict[int, Tensor]
    """By timestep, B 4 h w: the network's own input z. Only in lockstep."""
    context: Tensor | None
    """B T C: the prompt's tokens. Only in lockstep."""

    @property
    def lockstep(self) -> bool:
        return bool(self.inputs)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the latent, in cells."""
        return self.end.shape[-2], self.end.shape[-1]

    def timestep(self, sigma: float) -> int:
        """The stored timestep that serves a noise level: the nearest, at most half a step away."""
        level = int((self.table.log() - math.log(sigma)).abs().argmin())
        stored = [step.timestep for step in inversion_steps(self.steps, self.convention)]
        nearest = min(stored, key=lambda timestep: abs(timestep - level))
        if abs(nearest - level) > stride(self.steps) / 2:
            raise ValueError(
                f"The sampler calls the model at timestep {level} (noise level {sigma:.4g}), but "
                f"StyleID has features of {len(stored)} steps from {stored[0]} to {stored[-1]}. "
                "Use the SIGMAS of Apply StyleID with a sampler such as euler, or end its range "
                "(`start_percent`, `end_percent`) before that level."
            )
        return nearest
