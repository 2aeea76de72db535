"""What the samplers of all methods are written against."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .diffusion import q_sample
from .schedule import LAST, signal

Denoise = Callable[[Tensor, int], Tensor]
"""(x, i) -> x0, the model's prediction at step i. x in the host's scale, x0 + sigma noise."""
Noise = Callable[[int], Tensor]
"""i -> unit noise of the shape of x for step i."""
Sampler = Callable[[Denoise, Tensor, Sequence[float], Noise], Tensor]
"""(denoise, x at sigmas[0], sigmas, noise) -> x at sigmas[-1], B C H W."""


def without_noise(run: Callable[[Denoise, Tensor, Sequence[float]], Tensor]) -> Sampler:
    """A sampler that adds none, in the form of those that do."""
    return lambda denoise, x, sigmas, noise: run(denoise, x, sigmas)


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for another stream of noise, 0 <= result < 2^63: unlike `seed` + 1 it cannot
    coincide with a seed that a user or the host takes for something else."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:8], "big") >> 1


def step_noise(seed: int, like: Tensor, same: bool = False) -> Noise:
    """Unit noise of the shape, device and dtype of `like`, B C H W, new at every call.

    Drawn on the CPU, so the same everywhere; every row has its own stream, so an image does not
    depend on how many others are in its batch. same: all rows get the first one's.
    """
    rows = range(1 if same else like.shape[0])
    streams = [torch.Generator().manual_seed(derived_seed(seed, f"step {row}")) for row in rows]

    def noise(i: int) -> Tensor:
        fields = [torch.randn(like.shape[1:], generator=stream) for stream in streams]
        return torch.stack(fields).to(like).expand_as(like)

    return noise


def spaced_ddpm(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Tensor:
    """Spaced DDPM with the small fixed variance (Nichol & Dhariwal 2021; DiffBIR v1 and v2;
    SeeSR's DDPM is the same).

    With r = (sigma' / sigma)^2 the posterior of Ho et al. 2020, eq. 7, multiplied by
    sqrt(1 + sigma'^2), is N((1 - r) x0 + r x, sigma'^2 (1 - r)).
    x: B C H W at sigmas[0]; sigmas: descending. Returns x at sigmas[-1].
    """
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x0 = denoise(x, i)
        ratio = (sigma_next / sigma) ** 2
        x = (1 - ratio) * x0 + ratio * x
        if sigma_next > 0:
            x = x + sigma_next * math.sqrt(1 - ratio) * noise(i)
    return x


@dataclass(frozen=True)
class StartPoint:
    """What the start of a run is made from, in the variance-preserving scale."""

    picture: Callable[[], Tensor]
    """B C h w: the latent of the low-quality or stage-1 picture."""
    noise: Callable[[str], Tensor]
    """purpose -> unit noise of the latent's shape; "" is the run's own."""
    table: Tensor
    """The model's sigma of every timestep."""
    first_signal: float
    """A at the run's first noise level."""
    noise_level: int
    """The user's timestep, for starts that have one."""


Start = Callable[[StartPoint], Tensor]
"""What the network is to see first, B C h w."""


def pure_noise(point: StartPoint) -> Tensor:
    """The start of an ordinary run."""
    return point.noise("")


def embedded_picture(point: StartPoint) -> Tensor:
    """sqrt(A) z + sqrt(1 - A) n with A at timestep 999, also where the run's first step is below
    it: SeeSR's LR embedding (eq. 5), DiffBIR's option `cond`."""
    return q_sample(point.picture(), point.noise(""), signal(point.table, LAST))
