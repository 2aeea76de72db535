"""From sources to batches. What sample number k is, its crop, damage and text follow from the seed and
k alone, so the number of processes, workers and accumulations changes nothing."""

from __future__ import annotations

import functools
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...common.degradation import LUMA
from ..config import Data
from ..errors import TrainingError
from .pictures import UnreadablePictureError, cropped, read_picture, to_tensor
from .sources import Blob, Item

log = logging.getLogger(__name__)
Rng = np.random.Generator
Sample = dict[str, Any]
"""As `part.Batch` says, but one of it; and `names`, where the picture came from."""
Damage = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(3 H W in 0..1, seed) -> (target, damaged) of the same size."""
TRIES = 10
"""Pictures that may be unreadable one after the other before the run stops."""
CROP, LQ_CROP, DAMAGE, TEXT, OTHER = range(5)
"""What a draw is for."""


def rng_for(seed: int, sample: int, use: int) -> Rng:
    """A generator of its own for one use of one sample."""
    return np.random.default_rng([seed, sample, use])


class Order:
    """Which picture is sample k: all of them in a new order every epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self._epoch = functools.lru_cache(2)(self._permutation)

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.count)

    def __call__(self, sample: int) -> int:
        epoch, place = divmod(sample, self.count)
        return int(self._epoch(epoch)[place])

    def __reduce__(self) -> tuple[type, tuple[int, int]]:  # to workers that are spawned
        return Order, (self.count, self.seed)


def gray(pixels: Tensor, _: int) -> tuple[Tensor, Tensor]:
    """PASD's colorization: the luma, three times, beside the untouched picture."""
    luma = (pixels * pixels.new_tensor(LUMA)[:, None, None]).sum(0, keepdim=True)
    return pixels, luma.expand(3, -1, -1).contiguous()


def no_damage(pixels: Tensor, _: int) -> tuple[Tensor, Tensor]:
    return pixels, pixels


@dataclass(frozen=True)
class Pairs(Dataset):
    """Sample number -> a picture, its damaged partner and its text."""

    data: Data
    items: Sequence[Item]
    order: Order
    damage: Damage | None
    """None: no partner is needed."""

    def __getitem__(self, sample: int) -> Sample:
        others = rng_for(self.order.seed, sample, OTHER)
        item = self.items[self.order(sample)]
        for _ in range(TRIES):
            try:
                return self._sample(item, sample)
            except (UnreadablePictureError, OSError) as error:
                log.warning("%s is skipped: it cannot be read (%s).", self.describe(item), error)
            item = self.items[int(others.integers(len(self.items)))]
        raise TrainingError(
            f"{TRIES} pictures one after the other cannot be read: look at the data with "
            "`data check`."
        )

    def __len__(self) -> int:
        return len(self.items)

    def describe(self, item: Item) -> str:
        where = item.picture.file
        return where if item.picture.size < 0 else f"{item.name} in {where}"

    def _sample(self, item: Item, sample: int) -> Sample:
        seed = self.order.seed
        made: Sample = {"names": self.describe(item), "captions": self._text(item, sample)}
        picture = read_picture(item.picture.read())
        made["hq"] = to_tensor(cropped(picture, self.data, rng_for(seed, sample, CROP)))
        if item.lq is not None and self.data.lq:
            partner = read_picture(item.lq.read()).resize(picture.size, resample=3)
            made["lq"] = to_tensor(cropped(partner, self.data, rng_for(seed, sample, CROP)))
        elif self.damage is not None:
            number = int(rng_for(seed, sample, DAMAGE).integers(2**63))
            made["hq"], made["lq"] = self.damage(made["hq"], number)
        return made

    def _text(self, item: Item, sample: int) -> str:
        rng = rng_for(self.order.seed, sample, TEXT)
        long, null = rng.random() < self.data.long_text, rng.random() < self.data.null_text
        if self.data.text == "none" or null:
            return ""
        if self.data.text == "prompt":
            return self.data.prompt
        chosen: Blob | None = item.long_text if long and item.long_text else item.text
        return chosen.read().decode("utf-8", "replace").strip() if chosen else ""


@dataclass(frozen=True)
class Share:
    """Which samples one process takes at once, step for step."""

    batch: int
    """Of a step, over all processes."""
    at_once: int
    processes: int
    process: int

    @property
    def accumulation(self) -> int:
        return self.batch // (self.at_once * self.processes)

    def samples(self, step: int, micro: int) -> list[int]:
        """Numbers of the samples of a part of a step, counted from the start of the run."""
        first = step * self.batch + self.place(micro)
        return list(range(first, first + self.at_once))

    def place(self, micro: int) -> int:
        """Where in the step's batch that part begins."""
        return (micro * self.processes + self.process) * self.at_once

    def batches(self, start: int, end: int) -> Iterator[list[int]]:
        for step in range(start, end):
            yield from (self.samples(step, micro) for micro in range(self.accumulation))


def share_of(batch: int, at_once: int, processes: int, process: int) -> Share:
    """TrainingError where the numbers do not go into each other."""
    own, rest = divmod(batch, processes)
    at_once = at_once or own
    if rest or not own or own % at_once:
        raise TrainingError(
            f"run.batch = {batch} cannot be shared among {processes} processes that take "
            f"{at_once or batch} pictures at once: choose a batch that is a multiple of "
            f"{processes * max(at_once, 1)}, or another run.at_once."
        )
    return Share(batch, at_once, processes, process)


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Tensors stacked to B ..., words and numbers as lists. Pictures of a class (`prior`) stand
    behind all others."""
    samples = sorted(samples, key=lambda each: each.get("prior", False))
    first = samples[0]
    return {
        key: torch.stack([each[key] for each in samples])
        if isinstance(first[key], Tensor)
        else [each[key] for each in samples]
        for key in first
    }


def load(dataset: Dataset, share: Share, start: int, end: int, workers: int) -> Iterator[Any]:
    """The batches of one process from step `start` to before `end`, made ahead in `workers`
    processes."""
    ahead = {"prefetch_factor": 2, "worker_init_fn": _begin_worker} if workers else {}
    return iter(
        DataLoader(
            _Numbered(dataset),
            batch_sampler=_Listed(share, start, end),
            collate_fn=collate,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            **ahead,
        )
    )


@dataclass(frozen=True)
class _Numbered(Dataset):
    """Every sample says its number, `sample`: what is drawn for it while training follows from
    that."""

    dataset: Dataset

    def __getitem__(self, sample: int) -> Sample:
        return {**self.dataset[sample], "sample": sample}


@dataclass(frozen=True)
class _Listed:
    share: Share
    start: int
    end: int

    def __iter__(self) -> Iterator[list[int]]:
        return self.share.batches(self.start, self.end)

    def __len__(self) -> int:
        return (self.end - self.start) * self.share.accumulation


def _begin_worker(_: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the run decides
