"""Random numbers of a training step that do not depend on how its batch was divided.

Every number is drawn for one sample, keyed by the run's seed, the step, the sample's place in that
step and the number's own name. Two processes, or two rounds of accumulation, then draw what one
process with the whole batch draws, and a further draw changes none of the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Draws = dict[str, Tensor]
"""Random numbers of one step by name; rows first."""


def generator(*key: object) -> torch.Generator:
    """A generator on the CPU whose numbers depend on all parts of the key alone."""
    digest = hashlib.sha256(":".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Row:
    """One sample of one step."""

    seed: int
    """Of the run."""
    step: int
    """Of the optimizer, from 0."""
    index: int
    """Place in the step's whole batch, over all processes and rounds of accumulation."""

    def generator(self, name: str) -> torch.Generator:
        """For one named draw of this sample."""
        return generator(self.seed, self.step, self.index, name)


def rows_of(seed: int, step: int, start: int, count: int) -> list[Row]:
    """The rows of a part of a step's batch that begins at place `start`."""
    return [Row(seed, step, start + i) for i in range(count)]


def drawn(rows: Sequence[Row], name: str, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
    """One draw for every row, stacked."""
    return torch.stack([draw(row.generator(name)) for row in rows])


def normal(rows: Sequence[Row], name: str, *shape: int) -> Tensor:
    """Unit noise, B *shape."""
    return drawn(rows, name, lambda generator: torch.randn(shape, generator=generator))


def integers(rows: Sequence[Row], name: str, end: int) -> Tensor:
    """B int64, uniform in 0..end-1."""
    return drawn(rows, name, lambda generator: torch.randint(end, (), generator=generator))


def kept(rows: Sequence[Row], name: str, rate: float, *shape: int) -> Tensor:
    """Masks of dropout or stochastic depth, B *shape: 1 kept, 0 dropped with probability `rate`."""
    return drawn(
        rows, name, lambda generator: (torch.rand(shape, generator=generator) >= rate).float()
    )
