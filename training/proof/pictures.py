"""What the tiny networks learn from: simple pictures, damaged so that a restoration can be judged."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...common.degradation import FirstOrder, training_pair
from ...common.jpeg import jpeg_round_trip
from ..data.pairs import Order, Sample

SIDE = 32
DAMAGE = FirstOrder(
    blur_sigma=(0.5, 2), shrink=(4, 4), noise_sigma=(50, 90), jpeg_quality=(60, 100)
)
"""DiffBIR's model of damage. A quarter of the side and strong noise take away what such pictures let
a network know again; the published ranges on 64 pixels take away what nobody could."""
UNSEEN = 10**6
"""Seed of the first picture that no training sees."""
FIGURES = ("disc", "box", "ring")
HUES = {"red": 0.0, "yellow": 1 / 6, "green": 1 / 3, "blue": 2 / 3}
LABELS = (*FIGURES, *HUES)


def picture(seed: int, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """(3 side side in 0..1, which of LABELS are to be seen: 0 or 1 each): one to three figures
    before a gradient of grays."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*[(np.arange(side) + 0.5) * 2 / side - 1] * 2, indexing="ij")
    slope = rng.uniform(-0.2, 0.2, 2)
    gray = rng.uniform(0.3, 0.7) + slope[0] * y + slope[1] * x
    canvas = np.repeat(gray[None], 3, 0) + rng.normal(0, 0.03, (3, 1, 1))
    seen = torch.zeros(len(LABELS))
    for _ in range(rng.integers(1, 4)):
        figure, hue = int(rng.integers(len(FIGURES))), int(rng.integers(len(HUES)))
        seen[figure] = seen[len(FIGURES) + hue] = 1
        center, radius = rng.uniform(-0.6, 0.6, 2), rng.uniform(0.25, 0.6)
        dy, dx = y - center[0], x - center[1]
        inside = (
            radius - np.hypot(dy, dx),
            0.9 * radius - np.maximum(abs(dy), abs(dx)),
            0.12 - abs(np.hypot(dy, dx) - radius),
        )[figure]
        cover = np.clip(inside * side / 2 + 0.5, 0, 1)
        tone = ([*HUES.values()][hue] + rng.uniform(-0.04, 0.04)) % 1
        color = colorsys.hsv_to_rgb(tone, rng.uniform(0.6, 1), rng.uniform(0.6, 1))
        canvas = canvas * (1 - cover) + np.reshape(color, (3, 1, 1)) * cover
    return torch.from_numpy(canvas.clip(0, 1)).float(), seen


class Pictures(Dataset):
    """Generated pictures and their damaged forms, made once."""

    def __init__(self, first: int, count: int) -> None:
        self.order = Order(count, first)
        self.samples = [self._sample(seed) for seed in range(first, first + count)]

    @staticmethod
    def _sample(seed: int) -> Sample:
        clean, seen = picture(seed)
        hq, lq = (each[0] for each in training_pair(clean[None], DAMAGE, seed, jpeg_round_trip))
        return {"hq": hq, "lq": lq, "seen": seen, "captions": "", "names": f"picture {seed}"}

    def __getitem__(self, sample: int) -> Sample:
        return self.samples[self.order(sample)]

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self) -> dict[str, Any]:
        """All of them."""
        columns = {key: [each[key] for each in self.samples] for key in self.samples[0]}
        return {
            key: torch.stack(column) if isinstance(column[0], Tensor) else column
            for key, column in columns.items()
        }
