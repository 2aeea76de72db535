"""The learning rate of a step: the authors' schedules."""

from __future__ import annotations

from .config import Optimizer


def rate(optimizer: Optimizer, step: int) -> float:
    """The rate of a step, counted from 0: grows linearly from 0 over `warmup` steps (so the first
    one moves nothing, as DAPE's), then is multiplied by `factor` at every milestone passed."""
    if step < optimizer.warmup:
        return optimizer.lr * step / optimizer.warmup
    return optimizer.lr * optimizer.factor ** sum(step >= each for each in optimizer.milestones)
