"""Whole restorations by a part that trains: the schedule, sampler and start that its method's nodes offer,
around the networks in memory.

Without guidance, as DiffBIR's own training shows its samples; what the nodes add around a run (prompts,
guidance, tiles, color correction) is not in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import registry
from ..common.diffusion import Prediction
from ..common.sampling import StartPoint, derived_seed, step_noise
from ..common.schedule import schedule_sigmas, schedule_timesteps
from .config import Config
from .errors import TrainingError
from .opened import Restore
from .part import Batch
from .samples import restorer


@dataclass(frozen=True)
class Way:
    """How a method's authors restore, by the names in the nodes. Every part has one, `WAY`."""

    schedule: str
    sampler: str
    start: str
    noise_level: int = 0
    """The timestep of a start that has one."""


class Latents(Protocol):
    """Pictures in 0..1, B 3 H W, to the model's latents, B C h w, and back."""

    def encoded(self, pixels: Tensor) -> Tensor: ...

    def decoded(self, latent: Tensor) -> Tensor: ...


def clean(x: Tensor, answer: Tensor, sigma: float, prediction: Prediction) -> Tensor:
    """x0 of x = x0 + sigma noise, by what the network answered: the noise, or the velocity
    (Salimans & Ho 2022)."""
    if prediction == "eps":
        return x - sigma * answer
    return (x / math.hypot(1, sigma) - sigma * answer) / math.hypot(1, sigma)


@torch.no_grad()
def restored(
    part: Any, way: Way, batch: Batch, latents: Latents, steps: int = 20, seed: int = 0
) -> Tensor:
    """A restoration of `lq`, B 3 H W in 0..1 -> the same size.

    part: a `DiffusionTrainable`. batch: what it reads of the damaged picture and the text. Every row
    has its own noise, from the seed and its place.
    """
    schedule, process = registry.schedules()[way.schedule], part.process
    table = process.noise / process.signal
    timesteps = schedule_timesteps(schedule, steps)
    sigmas = schedule_sigmas(schedule, table, steps).tolist()
    z = latents.encoded(batch["lq"])
    seen, context = part.seen(batch), part.context(batch)

    def denoise(x: Tensor, i: int) -> Tensor:
        rows = torch.full((len(x),), round(timesteps[i]), device=x.device)
        answer = part.predict(x / math.hypot(1, sigmas[i]), rows, context, seen)
        return clean(x, answer, sigmas[i], process.prediction)

    def unit_noise(purpose: str) -> Tensor:
        return step_noise(derived_seed(seed, f"start {purpose}"), z)(0)

    first_signal = 1 / (1 + sigmas[0] ** 2)
    point = StartPoint(lambda: z, unit_noise, table, first_signal, way.noise_level)
    x = registry.starts()[way.start](point) * math.hypot(1, sigmas[0])
    return latents.decoded(
        registry.samplers()[way.sampler](denoise, x, sigmas, step_noise(seed, z))
    )


def branch_restorer(config: Config, part: Any, way: Way) -> Restore | None:
    """The samples of a diffusion part's run. TrainingError for a number of steps that its schedule
    cannot take."""
    if not config.samples.pictures:
        return None
    steps = config.samples.steps
    try:
        if steps < 1:
            raise ValueError("a restoration takes one step or more.")
        schedule_timesteps(registry.schedules()[way.schedule], steps)
    except ValueError as error:
        raise TrainingError(f"samples.steps = {steps}: {error}") from error

    def run(batch: Batch) -> Tensor:
        device = next(part.parameters()).device
        here = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
        return restored(part, way, here, part.moments, steps, config.samples.seed)

    return restorer(config, run)
