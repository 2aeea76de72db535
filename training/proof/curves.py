"""The losses of a proof's runs as one drawing."""

from __future__ import annotations

import csv
import math
from itertools import pairwise
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, EDGE = 720, 360, 60, 130, 30
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#7f7f7f")
SMOOTH = 40
"""Points of a curve: each is the mean of as many steps as that leaves."""


def smoothed(losses: list[float]) -> list[float]:
    """Means of equal parts."""
    size = max(1, len(losses) // SMOOTH)
    parts = [losses[i : i + size] for i in range(0, len(losses) - size + 1, size)]
    return [sum(part) / size for part in parts]


def curves(folder: Path) -> str:
    """SVG: the loss of every run below `folder`, as a share of its first one, over the share of its
    steps."""
    runs = {}
    for file in sorted(folder.glob("*/log.csv")):
        with file.open(newline="") as source:
            losses = [float(row["loss"]) for row in csv.DictReader(source)]
        first, *rest = smoothed(losses)
        runs[file.parent.name] = [1.0, *(each / first for each in rest)]
    lowest = min(min(run) for run in runs.values())
    low = 2.0 ** math.floor(math.log2(lowest))
    right, bottom = WIDTH - RIGHT, HEIGHT - EDGE

    def across(value: float) -> float:
        return LEFT + (right - LEFT) * value

    def down(value: float) -> float:
        return EDGE + (bottom - EDGE) * min(1.0, math.log(value) / math.log(low))

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(round(-math.log2(low)) + 1):
        y = down(2.0**-power)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        lines.append(
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{2.0**-power:g}</text>'
        )
    ends = sorted((down(run[-1]), name) for name, run in runs.items())
    heights = {name: y for y, name in ends}
    for (_, above), (_, name) in pairwise(ends):  # names do not lie on one another
        heights[name] = max(heights[name], heights[above] + 15)
    for (name, run), color in zip(runs.items(), COLORS, strict=False):
        points = " ".join(
            f"{across(i / (len(run) - 1)):.1f},{down(y):.1f}" for i, y in enumerate(run)
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        lines.append(
            f'<text x="{right + 8}" y="{heights[name] + 4:.1f}" fill="{color}">{name}</text>'
        )
    middle = (LEFT + right) // 2
    lines.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">share of the steps; the loss as '
        "a share of its first</text></svg>"
    )
    return "\n".join(lines) + "\n"
