"""PASD's steps, its UniPC (in the host's scale x = x0 + sigma noise) and its start point."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..common.diffusion import q_sample
from ..common.sampling import Denoise, StartPoint
from ..common.schedule import LAST, signal


def unipc(denoise: Denoise, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """UniPC of order 2 with B(h) = e^h - 1, predicting x0 (Zhao et al. 2023, alg. 5 to 8), with
    diffusers' defaults: every step but the first is corrected, the last is of first order.

    The host's `uni_pc_bh2` differs: order 3, last sigma 0.001. The prediction made before a
    correction is kept, not made again.
    x: B C H W at sigmas[0]; sigmas: descending. Returns x at sigmas[-1].
    """
    steps = len(sigmas) - 1
    predictions: list[Tensor] = []
    start, order = x, 0  # where the last step began, and its order
    for i in range(steps):
        predictions = [*predictions[-2:], denoise(x, i)]
        if i > 0:
            x = _correct(start, predictions, sigmas[max(i - 2, 0) : i + 1], order)
        order = min(2, steps - i, i + 1)
        start = x
        direction = predictions[-1]
        if order == 2:
            ratio = math.log(sigmas[i] / sigmas[i + 1]) / math.log(sigmas[i - 1] / sigmas[i])
            direction = direction + ratio / 2 * (direction - predictions[-2])
        x = torch.lerp(direction, x, sigmas[i + 1] / sigmas[i])
    return x


def _correct(
    start: Tensor, predictions: list[Tensor], sigmas: Sequence[float], order: int
) -> Tensor:
    """The step just made once more, now that the prediction at its end is known.

    start: x where it began. predictions and sigmas: the last two or three, ascending in time.
    """
    change = predictions[-1] - predictions[-2]
    if order == 1:
        correction = change / 2
    else:
        h = math.log(sigmas[-2] / sigmas[-1])
        r = -math.log(sigmas[-3] / sigmas[-2]) / h
        decay = math.expm1(-h)
        b1 = (decay / -h - 1) / decay
        b2 = 2 * ((decay / -h - 1) / -h - 0.5) / decay
        earlier = (predictions[-3] - predictions[-2]) / r
        correction = (b1 - b2) / (1 - r) * earlier + (b2 - r * b1) / (1 - r) * change
    return torch.lerp(predictions[-2] + correction, start, sigmas[-1] / sigmas[-2])


def unipc_timesteps(steps: int) -> list[int]:
    """PASD's UniPC (diffusers' "linspace"): 999 downwards in equal strides, 0 excluded."""
    return [round(i * (LAST / steps)) for i in range(steps, 0, -1)]


def twice_noised(point: StartPoint) -> Tensor:
    """The picture under noise at the run's first level, then once more with new noise at the
    user's level."""
    once = q_sample(point.picture(), point.noise(""), point.first_signal)
    return q_sample(once, point.noise("PASD second noise"), signal(point.table, point.noise_level))
