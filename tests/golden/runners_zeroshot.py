"""The zero-shot family at pixel level: our updates around each case's small network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, linear, silu

from restoration.common.schedule import sigmas_from
from restoration.tests.golden.suite import GoldenCase, golden
from restoration.zeroshot import sampling
from restoration.zeroshot.axes import CUBIC, ZERO_BELOW, Bicubic, Blur
from restoration.zeroshot.comparison import Degraded, light_step
from restoration.zeroshot.jpeg import JpegCoder
from restoration.zeroshot.operators import (
    AveragePool,
    Grayscale,
    Identity,
    Mask,
    Separable,
    Spectral,
    project,
)
from restoration.zeroshot.sampling import Levels, Measurement


def alphas(case: GoldenCase) -> Tensor:
    """abar of every timestep, float64."""
    betas = case.config["betas"]
    assert betas["schedule"] == "linear"
    ends = betas["beta_start"], betas["beta_end"]
    return torch.cumprod(1 - torch.linspace(*ends, betas["steps"], dtype=torch.float64), 0)


def sigma_at(case: GoldenCase, timestep: int) -> float:
    """-1 is the clean picture."""
    return 0.0 if timestep < 0 else float(sigmas_from(alphas(case))[timestep])


def vp(x: Tensor, sigma: float) -> Tensor:
    return x / math.hypot(1, sigma)


class Network:
    """The case's network: x0 in the host's scale, and the variance value where it learns one."""

    def __init__(self, case: GoldenCase) -> None:
        self.case, self.weights = case, case.state_dict()
        self.x0: list[Tensor] = []
        self.learned: Tensor | None = None

    def answer(self, x: Tensor, timestep: int) -> tuple[Tensor, Tensor]:
        """(noise, further channels) for x in the variance-preserving scale."""
        w = self.weights
        angles = 2 * math.pi * torch.arange(1, 5) * timestep / self.case.config["betas"]["steps"]
        time = linear(torch.cat([angles.sin(), angles.cos()]), w["time.weight"], w["time.bias"])
        h = silu(conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1) + time[:, None, None])
        d = conv2d(h, w["conv2.weight"], w["conv2.bias"], padding=1)
        return (1 - alphas(self.case)[timestep]).sqrt().float() * x + 0.1 * d[:, :3], d[:, 3:]

    def __call__(self, x: Tensor, timestep: int) -> Tensor:
        sigma = sigma_at(self.case, timestep)
        noise, further = self.answer(vp(x, sigma), timestep)
        x0 = x - sigma * noise
        if self.case.config.get("clip"):
            x0 = x0.clamp(-1, 1)
        self.x0.append(x0)
        self.learned = further.tanh()
        return x0


def operator_of(case: GoldenCase) -> Spectral:
    spec = case.config["operator"]
    assert spec.get("zero_below", ZERO_BELOW) == ZERO_BELOW
    match spec["kind"]:
        case "average_pool":
            return AveragePool(spec["scale"])
        case "gray":
            return Grayscale(tuple(spec["weights"]))
        case "identity":
            return Identity()
        case "inpaint":
            return Mask(case.tensors["mask"][None, None])
        case "bicubic":
            assert (spec["a"], spec["boundary"]) == (CUBIC, "half-sample symmetric")
            return Separable(Bicubic(spec["scale"]))
        case "blur":
            return Separable(Blur(spec["sigma"], spec["taps"], spec["boundary"]))
    raise AssertionError(f"no operator {spec['kind']}")


@golden("zeroshot", "operators")
def operators(case: GoldenCase, get) -> None:
    operator, x, y = operator_of(case), case.tensors["x"], case.tensors["y"]
    values = operator.spectrum(x[:1]).flatten()
    case.check(
        {
            "Ax": operator.degrade(x),
            "A_pinv_y": operator.invert(y, x),
            "singular_values": values[values > 0].sort(descending=True).values,
        }
    )


class Run:
    """A run of a case: levels by timesteps, the given noise in order, what was seen."""

    def __init__(self, case: GoldenCase, levels: list[int], timesteps: list[int]) -> None:
        """levels: descending timesteps, the clean picture last. timesteps: as they are visited."""
        self.case, self.network, self.timesteps = case, Network(case), levels
        sigmas = [sigma_at(case, level) for level in levels]
        self.levels = Levels(sigmas, [levels.index(timestep) for timestep in timesteps])
        noise = iter(case.tensors["noise"])
        self.start = next(noise)
        self.draw = lambda: next(noise)
        self.xs: list[Tensor] = []

    def x0(self, x: Tensor, level: int) -> Tensor:
        return self.network(x, self.timesteps[level])

    def seen(self, level: int, x: Tensor, _x0: Tensor) -> None:
        self.xs.append(vp(x, self.levels.sigmas[level]))

    @property
    def inside(self) -> sampling.Run:
        return sampling.Run(self.x0, self.levels, self.draw, self.seen)

    @property
    def first(self) -> float:
        return self.levels.sigmas[0]

    def begin(self, x: Tensor) -> Tensor:
        self.xs.append(vp(x, self.first))
        return x

    def check(self) -> None:
        self.case.check({"xs": torch.stack(self.xs), "x0": torch.stack(self.network.x0)})


def measured(case: GoldenCase) -> Measurement:
    return Measurement(operator_of(case), case.tensors["y"], case.config["sigma_y"])


def jumping(case: GoldenCase) -> Run:
    """A DDNM run, in our own order of levels, which is the recorded one."""
    config = case.config
    steps, stride = config["steps"], config["betas"]["steps"] // config["steps"]
    times = sampling.jump_times(steps, config["travel_length"], config["travel_repeat"])
    visited = [time * stride if time >= 0 else -1 for time in times]
    assert visited == config["levels"]
    return Run(case, [*range((steps - 1) * stride, -1, -stride), -1], visited)


@golden("zeroshot", "ddnm")
def ddnm(case: GoldenCase, get) -> None:
    run, operator, y = jumping(case), operator_of(case), case.tensors["y"]
    assert case.config["sigma_y"] == 0

    def projected(x0: Tensor, _level: int) -> Tensor:
        return project(x0, operator.invert(y, x0), operator)

    x = run.begin(run.start * math.hypot(1, run.first))
    sampling.descend(run.inside, x, sampling.ddnm(projected, case.config["eta"]))
    run.check()


@golden("zeroshot", "ddnm_plus")
def ddnm_plus(case: GoldenCase, get) -> None:
    run = jumping(case)
    x = run.begin(run.start * math.hypot(1, run.first))
    sampling.descend(run.inside, x, sampling.ddrm(measured(case), case.config["eta"], 1.0))
    run.check()


@golden("zeroshot", "ddrm")
def ddrm(case: GoldenCase, get) -> None:
    config = case.config
    timesteps = [*config["timesteps"], -1]
    run, known = Run(case, timesteps, timesteps), measured(case)
    x = run.begin(sampling.ddrm_start(run.start, run.first, known))
    update = sampling.ddrm(known, config["eta"], config["eta_b"])
    sampling.descend(run.inside, x, update)
    run.check()


@golden("zeroshot", "jump schedules")
def jump_schedules(case: GoldenCase, get) -> None:
    for row in case.data["rows"]:
        assert row["n_sample"] == 1
        steps, length, repeats = row["t_T"], row["jump_length"], row["jump_n_sample"]
        assert (
            sampling.jump_times(steps, length, repeats, (0, row["start_resampling"]))
            == row["times"]
        )
    paper = case.data["paper"]
    times = sampling.jump_times(paper["t_T"], paper["jump_length"], paper["jump_n_sample"])
    assert len(times) == paper["entries"]
    assert sum(b < a for a, b in pairwise(times)) == paper["downward"]
    assert sum(i * time for i, time in enumerate(times)) == paper["weighted_sum"]


class LearnedRange:
    """The variances of a network that learns a range (Nichol & Dhariwal 2021)."""

    def __init__(self, case: GoldenCase, network: Network) -> None:
        levels = alphas(case)[case.config["timesteps"]]
        self.network, self.count = network, len(levels)
        self.before = torch.cat([levels.new_ones(1), levels[:-1]])
        self.betas = 1 - levels / self.before
        self.small = self.betas * (1 - self.before) / (1 - levels)
        self.small[0] = self.small[1]  # of no use but for its logarithm

    def log_variance(self, i: int) -> Tensor:
        """Of the step from the ascending level i, variance-preserving."""
        assert self.network.learned is not None
        share = (self.network.learned + 1) / 2
        return share * self.betas[i].log().float() + (1 - share) * self.small[i].log().float()

    def __call__(self, level: int, _small: float) -> Tensor:
        """In the host's scale. level: descending."""
        i = self.count - 1 - level
        return (self.log_variance(i) / 2).exp() / self.before[i].sqrt().float()


@golden("zeroshot", "repaint")
def repaint(case: GoldenCase, get) -> None:
    jump, ascending = case.config["jump"], case.config["timesteps"]
    assert jump["n_sample"] == 1 and len(ascending) == jump["t_T"]
    times = sampling.jump_times(jump["t_T"], jump["jump_length"], jump["jump_n_sample"])
    visited = [ascending[time] if time >= 0 else -1 for time in times]
    run = Run(case, [*ascending[::-1], -1], visited)
    samples: list[Tensor] = []
    place = [0]

    def seen(level: int, x: Tensor, _x0: Tensor) -> None:
        before = run.levels.visits[place[0]]
        place[0] += 1
        if level > before:  # down
            samples.append(vp(x, run.levels.sigmas[level]))

    sampling.repaint(
        sampling.Run(run.x0, run.levels, run.draw, seen),
        run.start * math.hypot(1, run.first),
        case.tensors["gt"],
        case.tensors["mask"],
        LearnedRange(case, run.network),
    )
    case.check({"samples": torch.stack(samples), "x0": torch.stack(run.network.x0)})


@golden("zeroshot", "ddrm_jpeg")
def ddrm_jpeg(case: GoldenCase, get) -> None:
    """The coder is ours; the update of the paper's script is not offered as a node, so it stands here."""
    config, given = case.config, case.tensors
    coder = JpegCoder(config["quality"], mean_chroma=False)

    def through(x: Tensor) -> Tensor:
        return 2 * coder.round_trip((x + 1) / 2) - 1

    luma, chroma = coder.encode((given["x"] + 1) / 2)
    found = {"code_luma": luma, "code_chroma": chroma, "decoded_x": through(given["x"])}
    timesteps = [*config["timesteps"], -1]
    run = Run(case, timesteps, timesteps)
    eta, eta_b, y = config["eta"], config["eta_b"], given["y"]
    x = run.begin(y + run.first * run.start)
    for level, _ in enumerate(config["timesteps"]):
        sigma, to = run.levels.sigmas[level], run.levels.sigmas[level + 1]
        x0 = run.x0(x, level)
        moved = x0 - through(x0) + through(y)
        mixed = eta * run.draw() + (1 - eta) * (x - x0) / sigma
        x = eta_b * moved + (1 - eta_b) * x0 + to * mixed
        run.seen(level + 1, x, x0)
    case.check(found | {"xs": torch.stack(run.xs), "x0": torch.stack(run.network.x0)})


# Rules that are not offered: what the recordings hold, written beside the operators


def ddpm(case: GoldenCase, network: Network) -> Iterator[tuple[int, float, float, Tensor]]:
    """(index, timestep's sigma, the next one, step noise) of a DDPM run, from the noisiest."""
    ascending = case.config["timesteps"]
    for i in reversed(range(len(ascending))):
        to = sigma_at(case, ascending[i - 1]) if i else 0.0
        yield i, sigma_at(case, ascending[i]), to, case.tensors["noise"][len(ascending) - i]


def reflect_shrink(x: Tensor, scale: int) -> Tensor:
    """The Resizer of DPS, which is `Bicubic` of one axis after the other."""
    matrix = Bicubic(scale).matrix(x.shape[-2]).to(x), Bicubic(scale).matrix(x.shape[-1]).to(x)
    return matrix[0] @ x @ matrix[1].mT


@golden("zeroshot", "dps")
def dps(case: GoldenCase, get) -> None:
    spec, y, network = case.config["operator"], case.tensors["y"], Network(case)
    found: dict[str, list[Tensor]] = {name: [] for name in ("unguided", "samples", "x0", "norm")}
    ascending = case.config["timesteps"]
    deviation = LearnedRange(case, network)

    def degrade(x0: Tensor) -> Tensor:
        if spec["kind"] == "super_resolution":
            return reflect_shrink(x0, spec["scale"])
        assert spec["kind"] == "inpainting"
        return case.tensors["mask"] * x0

    z = case.tensors["noise"][0]
    for i, sigma, to, fresh in ddpm(case, network):
        z = z.detach().requires_grad_()
        x = z * math.hypot(1, sigma)
        x0 = network(x, ascending[i])
        ratio = (to / sigma) ** 2
        std = deviation(len(ascending) - 1 - i, 0.0) if i else 0.0
        moved = vp(x0 + ratio * (x - x0) + std * fresh, to)
        norm = (y - degrade(x0)).norm()
        (gradient,) = torch.autograd.grad(norm, z)
        found["unguided"].append(moved.detach())
        z = (moved - case.config["scale"] * gradient).detach()
        found["samples"].append(z)
        found["x0"].append(x0.detach())
        found["norm"].append(norm.detach())
    case.check({name: torch.stack(values) for name, values in found.items()})


@golden("zeroshot", "gdp")
def gdp(case: GoldenCase, get) -> None:
    network = Network(case)
    learned, ascending = LearnedRange(case, network), case.config["timesteps"]
    light = Exposure(case) if case.config["operator"]["kind"] == "exposure" else None
    z, x0s, samples = case.tensors["noise"][0], [], []
    for i, sigma, to, fresh in ddpm(case, network):
        places = [...] if light is None else light.places(*z.shape[-2:])
        means, logs, x0 = (Average(z, places) for _ in range(3))
        for place in places:
            x = z[place] * math.hypot(1, sigma)
            here = network(x, ascending[i])
            move = gdp_move(case, z, here) if light is None else light.move(here, place)
            means.add(place, vp(here + (to / sigma) ** 2 * (x - here), to) + move)
            logs.add(place, learned.log_variance(i))
            x0.add(place, here)
        z = means.value + ((logs.value / 2).exp() * fresh if i else 0.0)
        samples.append(z)
        x0s.append(x0.value)
        if light is not None:
            light.end_step()
    found = {"samples": torch.stack(samples), "x0": torch.stack(x0s)}
    case.check(found | ({} if light is None else light.found()))


class Average:
    """Of what windows say of a picture; a window that is listed twice counts twice."""

    def __init__(self, like: Tensor, places: list[Any]) -> None:
        self.total, self.count = torch.zeros_like(like), torch.zeros_like(like)

    def add(self, place: Any, value: Tensor) -> None:
        self.total[place] += value
        self.count[place] += 1

    @property
    def value(self) -> Tensor:
        return self.total / self.count


def gdp_move(case: GoldenCase, z: Tensor, x0: Tensor) -> Tensor:
    at = {"x0": x0, "x_t": z}[case.config["loss_on"]]
    move = -case.config["scale"] * gdp_gradient(case, at)
    return move - 500 * color_gradient(at) if case.config["operator"]["kind"] == "gray" else move


def gdp_gradient(case: GoldenCase, z: Tensor) -> Tensor:
    """Of the mean square of what A+A tells apart, by u = (z + 1) / 2."""
    spec = case.config["operator"]
    operator = AveragePool(spec["scale"]) if spec["kind"] == "average_pool" else Grayscale()
    difference = Degraded(operator)(z, case.tensors["y"], 0)  # row by row alike
    return difference / 2 / z[0].numel()


def color_gradient(z: Tensor) -> Tensor:
    z = z.detach().requires_grad_()
    r, g, b = z.mean((2, 3)).unbind(1)
    fourth = sum((d**4 for d in (r - g, r - b, b - g)), start=torch.zeros(()))
    (gradient,) = torch.autograd.grad(fourth.clamp(min=1e-30).sqrt().mean(), z)
    return gradient


class Exposure:
    """GDP's unknown light: a factor and a map, fitted in windows."""

    def __init__(self, case: GoldenCase) -> None:
        self.case, self.factor = case, case.tensors["light_factor"].clone()
        self.map = case.tensors["light_mask"].clone()
        self.factors: list[Tensor] = []
        self.maps: list[Tensor] = []

    def places(self, height: int, width: int) -> list[Any]:
        size, stride = self.case.config["window"], self.case.config["stride"]

        def offsets(side: int) -> list[int]:
            return [*range(0, side - size + 1, stride), side - size]

        self.fitted = Average(self.map, [])
        self.window_factors: list[Tensor] = []
        return [
            (..., slice(top, top + size), slice(left, left + size))
            for top in offsets(height)
            for left in offsets(width)
        ]

    def move(self, x0: Tensor, place: Any) -> Tensor:
        """Of the mean, in one window; fits the light there."""
        y, u = (self.case.tensors["y"][place] + 1) / 2, (x0 + 1) / 2
        moved, factor, fitted = light_step(u, y, self.factor, self.map[place[1:]])
        self.window_factors.append(factor.reshape(self.factor.shape))
        self.fitted.add(place[1:], fitted[0, 0])
        return -2 * self.case.config["scale"] * moved / u[0].numel()

    def end_step(self) -> None:
        self.factor = torch.stack(self.window_factors).mean(0)
        self.map = self.fitted.value
        self.factors.append(self.factor)
        self.maps.append(self.map)

    def found(self) -> dict[str, Tensor]:
        return {
            "light_factors": torch.stack(self.factors),
            "light_masks": torch.stack(self.maps),
        }
