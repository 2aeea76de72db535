"""Stochastic depth and dropout of a step from numbers drawn beforehand (Huang et al. 2016, Srivastava et al.
2014): as hooks after the branches, so that the network that runs knows nothing of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..common.draws import Draws, Row, kept
from .extra_blocks import Block


@dataclass(frozen=True)
class Dropped:
    """Something that training sometimes leaves out."""

    site: str
    """The layer whose output it is."""
    rate: float
    shape: tuple[int, ...] = ()
    """Of one sample's mask; (): the whole output of the sample."""

    @property
    def name(self) -> str:
        """Of its draw: B *shape, 1 kept, 0 dropped."""
        return f"kept.{self.site}"


def depth_rates(rate: float, blocks: int) -> list[float]:
    """Rate of every block: from none at the first to `rate` at the last."""
    return torch.linspace(0, rate, blocks).tolist()


def branches(blocks: Sequence[str], rate: float) -> list[Dropped]:
    """Both residual branches of every transformer block, named by its module; those with a rate."""
    rates = depth_rates(rate, len(blocks))
    return [
        Dropped(f"{block}.{branch}", share)
        for block, share in zip(blocks, rates, strict=True)
        if share
        for branch in ("attn", "mlp")
    ]


def draw_kept(rows: Sequence[Row], dropped: Sequence[Dropped]) -> Draws:
    return {each.name: kept(rows, each.name, each.rate, *each.shape) for each in dropped}


def scaled_mask(dropped: Dropped, draws: Mapping[str, Tensor]) -> Tensor:
    """What an output is multiplied with: 0, or the inverse of the share that is kept."""
    return draws[dropped.name] / (1 - dropped.rate)


def regularized(dropped: Sequence[Dropped], draws: Mapping[str, Tensor]) -> dict[str, Block]:
    """For `extra_blocks.after`, within one forward pass. Outputs whose draws are missing stay."""

    def block(mask: Tensor) -> Block:
        def multiply(output: Tensor) -> Tensor:
            # Windows of one sample lie together.
            rows = mask.repeat_interleave(len(output) // len(mask), 0)
            return output * rows.reshape(*rows.shape, *[1] * (output.ndim - rows.ndim)).to(output)

        return multiply

    return {each.site: block(scaled_mask(each, draws)) for each in dropped if each.name in draws}
