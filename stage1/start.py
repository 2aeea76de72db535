"""A fresh network for stage 1: DiffBIR's SwinIR, as its class starts (Liang et al. 2021): Linear weights
and tables of positions from a narrow normal, their biases zero, torch's default elsewhere."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class SwinIRSizes:
    """In the words of the class; the defaults are those of every published file of DiffBIR."""

    img_size: int = 64
    """Side of the picture after unshuffling, for which tables are computed beforehand."""
    patch_size: int = 1
    in_chans: int = 3
    embed_dim: int = 180
    depths: tuple[int, ...] = (6,) * 8
    num_heads: tuple[int, ...] = (6,) * 8
    window_size: int = 8
    mlp_ratio: float = 2.0
    upscale: int = 8
    img_range: float = 1.0
    upsampler: str = "nearest+conv"
    resi_connection: str = "1conv"
    start_unshuffle: int = 8
    drop_path_rate: float = 0.1
    """Stochastic depth (Huang et al. 2016) of the last block; the first has none."""


def new_swinir(sizes: SwinIRSizes, seed: int) -> nn.Module:
    """spandrel's network with its start values, drawn from the seed alone; on the CPU."""
    from spandrel.architectures.SwinIR import SwinIR

    arguments: dict[str, Any] = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(sizes).items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SwinIR(**arguments).float()
