"""What the samplers of all methods are written against."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, int], Tensor]
"""(x, i) -> x0, the model's prediction at step i. x in the host's scale, x0 + sigma noise."""
Noise = Callable[[int], Tensor]
"""i -> unit noise of the shape of x for step i."""


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
