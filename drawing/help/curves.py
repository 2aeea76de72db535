"""Curves, drawn from the functions that the nodes themselves call."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from PIL import Image

from ... import registry
from ...common import fidelity, schedule
from ...diffbir.sampling import growing_cfg
from .chart import Chart
from .look import COLORS, FAINT, WIDTH

TABLE = schedule.sigmas_from(schedule.scaled_linear_alphas())
"""Noise levels of Stable Diffusion 1.x and 2.x."""


def sigmas() -> Image.Image:
    schedules = registry.schedules()
    steps = {"diffbir_edm": 10, "pasd_unipc": 20, "pasd_unipc_original": 20, "seesr_turbo": 2}
    zero = -1.85  # where the axis has room for sigma 0
    chart = Chart((math.log10(20), zero - 0.1), (0, len(schedules)), left=246)
    chart.grid({math.log10(s): f"{s:g}" for s in (10, 1, 0.1)} | {zero: "0"}, {},
               "Noise levels of the authors' runs", "sigma")  # fmt: skip
    for row, (name, each) in enumerate(schedules.items()):
        levels = schedule.schedule_sigmas(each, TABLE, steps.get(name, 50)).tolist()
        color, y = COLORS[row % len(COLORS)], len(schedules) - row - 0.5
        chart.dots([(math.log10(level) if level else zero, y) for level in levels], color, 4)
        chart.text(236, chart.at(0, y)[1] / 2, name, color, "rm")
    return chart.done()


def guidance() -> Image.Image:
    """cfg 4 over the run; outside a range it is 1."""
    cfg, percents = 4.0, [i / 200 for i in range(201)]
    growing = [growing_cfg(cfg, schedule.LAST * (1 - p)) for p in percents]
    chart = Chart((0, 1), (0, 5.5))
    chart.grid({x / 4: f"{x / 4:g}" for x in range(5)}, {y: str(y) for y in range(6)},
               "Guidance with the sampler's cfg at 4",
               "part of the run")  # fmt: skip
    chart.line([(0, cfg), (1, cfg)], FAINT)
    chart.label(0.01, 4.35, "without the node", FAINT)
    chart.line([(0, 1), (0.2, 1), (0.2, cfg), (0.6, cfg), (0.6, 1), (1, 1)], COLORS[0])
    chart.label(0.22, 2.5, "start 0.2, end 0.6", COLORS[0])
    chart.line(list(zip(percents, growing, strict=True)), COLORS[1])
    chart.label(0.86, 3.3, "rescale on", COLORS[1], "rm")
    return chart.done()


def start_points() -> Image.Image:
    """sqrt(A) of each start: how much of the picture is under the noise."""
    last = schedule.signal(TABLE, schedule.LAST)
    levels = range(0, 1000, 5)
    twice = [(level, 100 * math.sqrt(last * schedule.signal(TABLE, level))) for level in levels]
    chart = Chart((0, 999), (-0.4, 8))
    chart.grid({x: str(x) for x in (0, 250, 500, 900)}, {y: f"{y} %" for y in (0, 2, 4, 6, 8)},
               "Share of the photo in the start",
               "added_noise_level (for pasd)")  # fmt: skip
    share, default = (100 * math.sqrt(last * other) for other in (1, schedule.signal(TABLE, 900)))
    chart.line([(0, share), (999, share)], COLORS[0])
    chart.label(990, share + 0.5, "seesr, diffbir", COLORS[0], "rm")
    chart.line(twice, COLORS[1])
    chart.label(550, 3.6, "pasd", COLORS[1])
    chart.dots([(900, default)], COLORS[1], 6)
    chart.label(990, 2.4, f"900: {default:.1f} %", COLORS[1], "rm")
    chart.line([(0, 0), (999, 0)], FAINT)
    chart.label(10, 0.5, "noise", FAINT)
    return chart.done()


def noise_tables() -> Image.Image:
    """sigma of every timestep, with and without zero terminal SNR."""
    alphas = schedule.zero_terminal_snr(schedule.scaled_linear_alphas())
    zero = schedule.sigmas_from(alphas).clamp(max=schedule.TERMINAL_SIGMA)
    chart = Chart((0, 999), (-1.7, 4.3))
    chart.grid({x: str(x) for x in (0, 250, 500, 750)},
               {y: f"{10**y:g}" for y in (-1, 0, 1, 2, 3, 4)},
               "Noise level (sigma) of every timestep", "timestep")  # fmt: skip
    for table, color in ((zero, COLORS[1]), (TABLE, COLORS[0])):
        chart.line([(t, math.log10(sigma)) for t, sigma in enumerate(table.tolist())], color)
    chart.label(980, 3.7, "v2.1: up to pure noise", COLORS[1], "rm")
    chart.label(990, 0.25, f"eps: up to {float(TABLE[-1]):.1f}", COLORS[0], "rm")
    return chart.done()


def dial() -> Image.Image:
    """What the number does to each knob that stands at the authors' setting."""
    values = [i / 100 for i in range(101)]
    chart = Chart((0, 1), (0, 2.1))
    chart.box = (70, 52, WIDTH - 28, chart.height - 130)
    chart.grid({0: "free", 0.5: "0.5: the authors", 1: "1"},
               {y / 2: f"{y / 2:g}" for y in range(5)}, "What fidelity does to each knob")  # fmt: skip
    knobs: dict[str, Callable[[float], float]] = {
        "guidance: scale x": partial(fidelity.guidance_scale, 1.0),
        "control: strength x": partial(fidelity.control_strength, 1.0),
        "StyleID: gamma": partial(fidelity.between, 0.0, 0.75, 1.0),
        "pasd start: noise / 1000": noise_share,
        "finish: share of the photo": fidelity.blend_weight,
    }
    for index, (color, (label, knob)) in enumerate(zip(COLORS, knobs.items(), strict=False)):
        chart.line([(value, knob(value)) for value in values], color)
        chart.text(8 + 290 * (index % 2), chart.height - 80 + 32 * (index // 2), label, color)
    return chart.done()


def noise_share(value: float) -> float:
    return fidelity.noise_level(900, schedule.LAST, value) / 1000
