"""The learning rate of a step: the authors' schedules."""

from __future__ import annotations

import math

from .config import Optimizer


def rate(optimizer: Optimizer, step: int) -> float:
    """The rate of a step, counted from 0: grows linearly from 0 over `warmup` steps (so the first
    one moves nothing, as DAPE's), then is multiplied by `factor` at every milestone passed, and falls
    along half a cosine to nothing at step `cosine`."""
    if step < optimizer.warmup:
        return optimizer.lr * step / optimizer.warmup
    falling = 1.0
    if optimizer.cosine:
        falling = 0.5 + 0.5 * math.cos(math.pi * min(step / optimizer.cosine, 1.0))
    passed = sum(step >= each for each in optimizer.milestones)
    return optimizer.lr * falling * optimizer.factor**passed
