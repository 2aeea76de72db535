"""A few pictures to learn from: squares of them, damaged partners and texts for the rows of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .draws import Row, generator
from .resample import resize

Damage = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(1 3 H W in 0..1, seed) -> (target, damaged), each of the same shape."""
EMPTY_SHARE = 0.5
"""How often PASD and SeeSR empty a text while they learn."""


@dataclass(frozen=True)
class Crops:
    """Pictures in a new order every epoch. What a row shows follows from its seed and number alone."""

    clean: Sequence[Tensor]
    """3 H W in 0..1, of any size."""
    damaged: Sequence[Tensor] = ()
    """Partners of the same sizes; none: made by `damage`."""
    texts: Sequence[Tensor] = ()
    """N D each: one for all pictures, or one each; none where nothing reads them."""
    empty: Tensor | None = None
    """N D, in the place of every second text."""
    size: int = 512
    """Of the squares, in pixels."""
    damage: Damage | None = None

    def batch(self, rows: Sequence[Row], per_step: int) -> dict[str, Any]:
        """hq, lq: B 3 size size in 0..1; text: B N D, where there are texts; names: of the pictures,
        for messages. per_step: rows of a whole step."""
        numbers = [self._picture(row, per_step) for row in rows]
        pairs = [self._pair(*each) for each in zip(numbers, rows, strict=True)]
        hq, lq = (torch.stack(side) for side in zip(*pairs, strict=True))
        batch = {"hq": hq, "lq": lq, "names": [f"picture {number + 1}" for number in numbers]}
        if self.texts:
            chosen = [self._text(*each) for each in zip(numbers, rows, strict=True)]
            batch["text"] = torch.stack(as_long_as_each_other(chosen))
        return batch

    def _picture(self, row: Row, per_step: int) -> int:
        epoch, place = divmod(row.step * per_step + row.index, len(self.clean))
        order = torch.randperm(len(self.clean), generator=generator(row.seed, "order", epoch))
        return int(order[place])

    def _pair(self, number: int, row: Row) -> tuple[Tensor, Tensor]:
        both = [self.clean[number], *self.damaged[number : number + 1]]
        square = square_of(torch.cat(both), self.size, row.generator("crop"))
        if len(both) == 2:
            clean, damaged = square.chunk(2)
            return clean, damaged
        assert self.damage is not None, "pictures without partners need a damage"
        seed = torch.randint(2**62, (), generator=row.generator("damage"))
        target, made = self.damage(square[None], int(seed))
        return target[0], made[0]

    def _text(self, number: int, row: Row) -> Tensor:
        if self.empty is not None:
            drawn = torch.rand((), generator=row.generator("empty"))
            if drawn < EMPTY_SHARE:
                return self.empty
        return self.texts[number if len(self.texts) > 1 else 0]


def square_of(pixels: Tensor, size: int, draws: torch.Generator) -> Tensor:
    """C size size: a random square, mirrored half the time. pixels: C H W in 0..1; one that is too
    small grows, bicubic, until a square has a little freedom, as PASD's does."""
    shorter = min(pixels.shape[-2:])
    if shorter < size:
        factor = size / shorter + 0.02
        height, width = (math.ceil(side * factor) for side in pixels.shape[-2:])
        pixels = resize(pixels[None], height, width)[0].clamp(0, 1)
    top, left = (
        int(torch.randint(side - size + 1, (), generator=draws)) for side in pixels.shape[-2:]
    )
    square = pixels[:, top : top + size, left : left + size]
    mirrored = torch.rand((), generator=draws) < 0.5
    return square.flip(-1) if mirrored else square


def as_long_as_each_other(texts: Sequence[Tensor]) -> list[Tensor]:
    """Texts of one length, N D each: repeated as a whole, which attention does not notice."""
    length = math.lcm(*(len(text) for text in texts))
    return [text.repeat(length // len(text), 1) for text in texts]
