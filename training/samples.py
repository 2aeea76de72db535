"""Fixed pictures, damaged by fixed draws, restored while training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..common import metrics
from ..common.resample import resize
from .config import Config
from .data.pictures import to_picture
from .opened import Restore
from .part import Batch
from .parts.common import pairs_of


def restorer(config: Config, restored: Callable[[Batch], Tensor]) -> Restore | None:
    """Restores the run's sample pictures; None where it names none.

    restored: `lq` and `captions` of a batch of one -> 1 3 H W in 0..1. A caption is the text that
    lies beside the picture, or the run's prompt, where the part learns with texts; else empty.
    Files: the damaged, the restored and the clean picture side by side.
    """
    chosen = config.samples
    if not chosen.pictures:
        return None
    data = replace(
        config.data,
        pictures=(chosen.pictures,),
        lq=(),
        texts="",
        text="none",
        null_text=0,
        long_text=0,
        crop="center",
        flip=0,
    )
    run = replace(config.run, seed=chosen.seed)
    pairs = pairs_of(replace(config, data=data, run=run))
    pairs = replace(pairs, data=replace(data, text=config.data.text))
    shown = [pairs[number] for number in range(min(chosen.count, len(pairs)))]

    @torch.no_grad()
    def restore(folder: Path) -> str:
        before, after = [], []
        for number, sample in enumerate(shown):
            lq, hq = sample["lq"][None], sample["hq"][None]
            found = restored({"lq": lq, "captions": [sample["captions"]]}).float().cpu().clamp(0, 1)
            lq = resize(lq, hq.shape[-2], hq.shape[-1]).clamp(0, 1)  # of parts that enlarge
            before.append(float(metrics.psnr(lq, hq, peak=1)))
            after.append(float(metrics.psnr(found, hq, peak=1)))
            side_by_side = torch.cat([lq, found, hq], -1)[0]
            to_picture(side_by_side).save(folder / f"{number:02}.png")
        count = len(shown)
        return f"PSNR {sum(before) / count:.2f} -> {sum(after) / count:.2f} dB"

    return restore
