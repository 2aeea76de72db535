"""What a part is worth: the error of the noise it finds, and pictures restored as its authors do."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ... import registry
from ...common import metrics
from ...common.diffusion import ForwardProcess
from ...common.draws import normal, rows_of
from ...common.sampling import StartPoint, step_noise
from ...common.schedule import schedule_sigmas, schedule_timesteps
from .patches import Patches
from .pictures import Pictures

STEPS = 20
NOISE_LEVEL = 900
"""PASD's, of its start."""
PUBLISHED = {
    "diffbir": ("diffbir_spaced", "diffbir_spaced", "noise"),
    "pasd": ("pasd_unipc", "pasd_unipc", "pasd"),
    "seesr": ("seesr_ddpm", "seesr_ddpm", "seesr"),
}
"""Schedule, sampler and start of every branch, by the names in the nodes."""


class Given(ForwardProcess):
    """The process of one call whose noisy latent is given."""

    x: Tensor

    def noised(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.x


@torch.no_grad()
def predicted(part: Any, lq: Tensor, x: Tensor, timesteps: Tensor) -> Tensor:
    """The noise that a part, whatever it adds, finds in x. x: B C h w, variance-preserving."""
    found: list[Tensor] = []
    process, zero = part.process, torch.zeros_like(x)
    given = Given(process.signal, process.noise, process.prediction)
    object.__setattr__(given, "x", x)
    hook = part.unet.register_forward_hook(lambda _module, _given, output: found.append(output))
    part.process = given
    try:
        batch = {"lq": lq, "hq": lq, "mean": zero, "logvar": zero, "captions": [""] * len(x)}
        part(batch, {"posterior": zero, "noise": zero, "timesteps": timesteps})
    finally:
        part.process = process
        hook.remove()
    (noise,) = found
    return noise


def noise_errors(part: Any, unseen: Pictures, patches: Patches) -> list[float]:
    """Mean squared error of the found noise at ten noise levels, over fixed draws."""
    batch = unseen.batch()
    z = patches.encoded(batch["hq"])
    errors = []
    for level in range(10):
        noise = normal(rows_of(1, level, 0, len(z)), "proof", *z.shape[1:])
        timesteps = torch.full((len(z),), 50 + 100 * level)
        x = part.process.noised(z, noise, timesteps)
        found = predicted(part, batch["lq"], x, timesteps)
        errors.append(float((found - noise).square().mean()))
    return errors


def noise_loss(part: Any, unseen: Pictures, patches: Patches) -> float:
    """The mean of `noise_errors`."""
    errors = noise_errors(part, unseen, patches)
    return sum(errors) / len(errors)


def restored(part: Any, name: str, lq: Tensor, patches: Patches, draw: int = 0) -> Tensor:
    """lq: B 3 H W in 0..1 -> the same size, by the schedule, sampler and start that the nodes of
    this branch offer, without guidance. draw: which of many restorations."""
    schedule, sampler, start = PUBLISHED[name]
    chosen = registry.schedules()[schedule]
    process, z = part.process, patches.encoded(lq)
    table = process.noise / process.signal
    timesteps = schedule_timesteps(chosen, STEPS)
    sigmas = schedule_sigmas(chosen, table, STEPS).tolist()

    def denoise(x: Tensor, i: int) -> Tensor:
        rows = torch.full((len(x),), round(timesteps[i]))
        noise = predicted(part, lq, x / math.hypot(1, sigmas[i]), rows)
        return x - sigmas[i] * noise

    def unit_noise(purpose: str) -> Tensor:
        return step_noise(100 * draw + 7 + len(purpose), z)(0)

    first_signal = 1 / (1 + sigmas[0] ** 2)
    point = StartPoint(lambda: z, unit_noise, table, first_signal, NOISE_LEVEL)
    x = registry.starts()[start](point) * math.hypot(1, sigmas[0])
    noise = step_noise(100 * draw + 8, z)
    return patches.decoded(registry.samplers()[sampler](denoise, x, sigmas, noise))


def psnr(found: Tensor, wanted: Tensor) -> float:
    """dB, the mean over pictures in 0..1."""
    return float(metrics.psnr(found.clamp(0, 1), wanted.clamp(0, 1), peak=1).mean())


def restored_psnr(
    part: Any, name: str, unseen: Pictures, patches: Patches, draws: int = 4
) -> tuple[float, float, float]:
    """(of the damaged pictures, of one restoration, of the mean of several), dB, all as the patches
    show them. A single one is a draw from what may have been, whose error is twice that of the mean
    of all (Blau & Michaeli 2018); the mean of several shows what is known of the picture."""
    batch = unseen.batch()
    shown, wanted = (patches.decoded(patches.encoded(batch[key])) for key in ("lq", "hq"))
    drawn = [restored(part, name, batch["lq"], patches, draw).clamp(0, 1) for draw in range(draws)]
    mean = torch.stack(drawn).mean(0)
    return psnr(shown, wanted), psnr(drawn[0], wanted), psnr(mean, wanted)
