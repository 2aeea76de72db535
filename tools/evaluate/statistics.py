"""How far the mean of a few pictures can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    count: int
    """Of pictures."""


def bootstrap(values: list[float]) -> Interval:
    """The mean, and the percentile bootstrap's 95 % interval (Efron 1979): of means over as many
    pictures, drawn anew with replacement. It assumes no distribution; the draws have a fixed seed, so
    equal figures give equal intervals. values: at least one."""
    all_values = np.asarray(values, np.float64)
    draws = np.random.default_rng(0).integers(0, len(all_values), (RESAMPLES, len(all_values)))
    means = all_values[draws].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(all_values.mean()), float(low), float(high), len(all_values))
