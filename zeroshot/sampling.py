"""The authors' own updates: DDNM, DDRM (and DDNM+, which is DDRM with eta_b 1), RePaint, and the order of
levels when a run jumps back. All in the host's scale, x = x0 + sigma noise.

The network's own noise is (x - x0) / sigma with its x0, before anything has moved it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .operators import OfValue, Spectral

Draw = Callable[[], Tensor]
"""Unit noise of the shape of x, new at every call."""
Network = Callable[[Tensor, int], Tensor]
"""(x, index of its level) -> x0."""
Seen = Callable[[int, Tensor, Tensor], None]
"""(index of the level gone to, x there, the network's last x0), after every transition."""


def jump_times(
    steps: int, length: int, repeats: int, within: tuple[int, int] | None = None
) -> list[int]:
    """RePaint's order of levels (Lugmayr et al. 2022, arXiv 2201.09865, appendix): indices into the
    ascending levels, from the noisiest; -1 is the clean picture.

    Every `length` steps a run goes back up as far, until each part was gone through `repeats` times.
    With one repeat, or a length of at least `steps`, it goes straight down. within: jumps begin and
    end at these levels or between them; None: anywhere.
    """
    lowest, highest = within or (0, steps)
    left = {
        level: repeats - 1
        for level in range(0, steps - length, length)
        if lowest <= level <= highest - length
    }
    times, level = [], steps
    while level >= 1:
        level -= 1
        times.append(level)
        if left.get(level, 0) > 0:
            left[level] -= 1
            for _ in range(length):
                level += 1
                times.append(level)
    return [*times, -1]


@dataclass(frozen=True)
class Levels:
    """The noise levels of a run, and the order in which it visits them."""

    sigmas: Sequence[float]
    """Descending; the last is 0 or where the run ends."""
    visits: Sequence[int]
    """Indices into `sigmas`, from 0 to the last."""

    @classmethod
    def jumping(cls, sigmas: Sequence[float], length: int, repeats: int) -> Levels:
        """By RePaint's order."""
        steps = len(sigmas) - 1
        return cls(sigmas, [steps - 1 - time for time in jump_times(steps, length, repeats)])

    def transitions(self) -> Iterator[tuple[int, int]]:
        return pairwise(self.visits)


@dataclass(frozen=True)
class Run:
    """What every update runs in."""

    network: Network
    levels: Levels
    draw: Draw
    seen: Seen | None = None

    def tell(self, level: int, x: Tensor, x0: Tensor) -> None:
        if self.seen is not None:
            self.seen(level, x, x0)


@dataclass(frozen=True)
class Step:
    """One step down: B C h w each."""

    level: int
    """Index of the level that it comes from."""
    x0: Tensor
    """The network's."""
    noise: Tensor
    """The network's own, of unit variance."""
    fresh: Tensor
    """Unit noise."""
    to: float
    """Sigma of the level that it goes to."""


Update = Callable[[Step], Tensor]
"""x at the level that the step goes to."""


def descend(run: Run, x: Tensor, update: Update) -> Tensor:
    """Through the levels of a run. A jump up noises the network's latest x0 (DDNM's time travel)."""
    sigmas, x0 = run.levels.sigmas, x
    for here, there in run.levels.transitions():
        fresh, sigma, to = run.draw(), sigmas[here], sigmas[there]
        if to > sigma:
            x = x0 + to * fresh
        else:
            x0 = run.network(x, here)
            x = update(Step(here, x0, (x - x0) / sigma, fresh, to))
        run.tell(there, x, x0)
    return x


def renoised(step: Step, x0: Tensor, eta: float) -> Tensor:
    """x of a picture at the step's level: DDIM's mix of the network's noise and fresh noise."""
    return x0 + step.to * (math.sqrt(1 - eta**2) * step.noise + eta * step.fresh)


def ddim(eta: float) -> Update:
    """Song et al. 2020, arXiv 2010.02502, eq. 12."""
    return lambda step: renoised(step, step.x0, eta)


def ddnm(project: Callable[[Tensor, int], Tensor], eta: float) -> Update:
    """DDNM (Wang et al. 2023, arXiv 2212.00490, algorithm 1). project: (x0, index of its level) -> x0
    that agrees with the measurement; a run ends with that."""
    return lambda step: renoised(step, project(step.x0, step.level), eta)


@dataclass(frozen=True)
class Measurement:
    """What DDRM knows."""

    operator: Spectral
    y: Tensor
    """The measurement, as `operator.degrade` gives one."""
    noise_level: float
    """Standard deviation of its noise, in the picture's own units."""


def ddrm(known: Measurement, eta: float, eta_b: float) -> Update:
    """DDRM (Kawar et al. 2022, arXiv 2201.11793, eq. 7-8), coordinate by coordinate of the measurement;
    with eta_b 1 it is DDNM+ (arXiv 2212.00490, eq. 17-19). A run ends with the network's x0."""
    operator, y, sigma_y = known.operator, known.y, known.noise_level
    rest = math.sqrt(1 - eta**2)

    def update(step: Step) -> Tensor:
        to, unmeasured = step.to, renoised(step, step.x0, eta)

        def by_case(hot: OfValue, cold: OfValue, otherwise: float) -> OfValue:
            """hot: the measurement is surer than the level's noise; cold: the other way round."""

            def of(s: Tensor) -> Tensor:
                found = torch.full_like(s, otherwise)
                found = torch.where(s * to > sigma_y, hot(s), found)
                return torch.where(s * to < sigma_y, cold(s), found)

            return of

        def share(s: Tensor) -> Tensor:  # of x0 that the measurement replaces, where it is cold
            return to * rest * s / max(sigma_y, 1e-30)

        def fresh_of_hot(s: Tensor) -> Tensor:
            return (to**2 - (eta_b * sigma_y / s.clamp(min=1e-30)).square()).clamp(min=0).sqrt()

        of_x0 = by_case(lambda s: torch.full_like(s, 1 - eta_b), lambda s: 1 - share(s), 1.0)
        of_fresh = by_case(fresh_of_hot, lambda s: torch.full_like(s, to * eta), to * eta)
        of_noise = by_case(torch.zeros_like, torch.zeros_like, to * rest)
        of_y = by_case(
            lambda s: eta_b / s.clamp(min=1e-30),
            lambda s: torch.full_like(s, to * rest / max(sigma_y, 1e-30)),
            0.0,
        )
        return (
            unmeasured
            - operator.filter(unmeasured, torch.ones_like)
            + operator.filter(step.x0, of_x0)
            + operator.filter(step.fresh, of_fresh)
            + operator.filter(step.noise, of_noise)
            + operator.filter_measured(y, of_y, step.x0)
        )

    return update


def ddrm_start(noise: Tensor, sigma: float, known: Measurement) -> Tensor:
    """x at the first level, where the measurement is already seen; the authors divide by sigma and not
    by sqrt(1 + sigma^2). noise: unit noise."""
    sigma_y = known.noise_level

    def seen(s: Tensor) -> Tensor:
        return s * sigma > sigma_y

    def of_noise(s: Tensor) -> Tensor:
        left = (sigma**2 - (sigma_y / s.clamp(min=1e-30)).square()).clamp(min=0).sqrt()
        return torch.where(seen(s), left, sigma)

    def of_y(s: Tensor) -> Tensor:
        return torch.where(seen(s), 1 / s.clamp(min=1e-30), 0.0)

    operator = known.operator
    x = (
        sigma * (noise - operator.filter(noise, torch.ones_like))
        + operator.filter(noise, of_noise)
        + operator.filter_measured(known.y, of_y, noise)
    )
    return x * (math.hypot(1, sigma) / sigma)


def repaint(
    run: Run,
    x: Tensor,
    known: Tensor,
    mask: Tensor,
    deviation: Callable[[int, float], Tensor | float] | None = None,
) -> Tensor:
    """RePaint (Lugmayr et al. 2022, arXiv 2201.09865, algorithm 1). known: the picture; mask: B 1 H W,
    1 where it is known. deviation: (index of the level, the fixed small one) -> standard deviation of
    the step's noise, for networks that learn it.

    Before every step but the first the known part gets noise of its own. Ends with the network's sample,
    whose known part is not pasted.
    """
    sigmas, x0 = run.levels.sigmas, None
    for here, there in run.levels.transitions():
        fresh, sigma, to = run.draw(), sigmas[here], sigmas[there]
        if to > sigma:
            x = x + math.sqrt(to**2 - sigma**2) * fresh
        else:
            if x0 is not None:
                x = mask * (known + sigma * run.draw()) + (1 - mask) * x
            x0 = run.network(x, here)
            ratio = (to / sigma) ** 2
            std: Tensor | float = to * math.sqrt(1 - ratio)
            if deviation is not None and to > 0:
                std = deviation(here, float(std))
            x = x0 + ratio * (x - x0) + std * fresh
        if x0 is not None:
            run.tell(there, x, x0)
    return x
