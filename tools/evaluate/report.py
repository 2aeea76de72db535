"""What an evaluation leaves: a table, a CSV, a JSON, and a contact sheet of the worst pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import replacing
from ..folder.display import printable
from ..folder.errors import UsageError
from ..panel import Labeled, panel
from .measures import MEASURES
from .pairs import Pair, read_rgb
from .statistics import LEVEL, bootstrap

CSV, JSON, SHEET = "evaluation.csv", "evaluation.json", "worst.jpg"
SHEET_WIDTH = 1500

Figures = Mapping[str, float]
"""Metric -> figure of one picture."""


@dataclass(frozen=True)
class Evaluation:
    """Every picture's figures."""

    pairs: Sequence[Pair]
    figures: Sequence[Figures]
    """Of each pair."""
    whole: Figures
    """Of all pairs together."""
    settings: Mapping[str, Any]

    def column(self, metric: str) -> list[float]:
        return [row[metric] for row in self.figures]

    @property
    def metrics(self) -> list[str]:
        return list(self.figures[0])

    def worst(self, count: int) -> list[int]:
        """Indices of the worst pictures, by the last metric that was measured: the papers' order
        has those that are closest to how people judge last."""
        if not self.metrics:
            return []
        metric = self.metrics[-1]
        sign = -1 if MEASURES[metric].higher_is_better else 1
        values = self.column(metric)
        return sorted(range(len(values)), key=lambda i: -sign * values[i])[:count]


def means(done: Evaluation) -> dict[str, str]:
    """Metric -> its figure of the whole set, as it is printed."""
    found = {name: bootstrap(done.column(name)).mean for name in done.metrics} | dict(done.whole)
    return {name: f"{found[name]:.{m.digits}f}" for name, m in MEASURES.items() if name in found}


def table(done: Evaluation) -> str:
    """Means with their intervals, as text."""
    rows = [("", "mean", f"{LEVEL:.0%} interval", "pictures")]
    for metric, mean in means(done).items():
        interval = ""
        if metric in done.metrics:
            found, digits = bootstrap(done.column(metric)), MEASURES[metric].digits
            interval = f"{found.low:.{digits}f} to {found.high:.{digits}f}"
        rows.append((str(MEASURES[metric]), mean, interval, str(len(done.pairs))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def worst_lines(done: Evaluation, count: int) -> list[str]:
    """The worst pictures with their figures."""
    return [
        f"{printable(done.pairs[index].name)}: {sentence(done.figures[index])}"
        for index in done.worst(count)
    ]


def sentence(figures: Figures) -> str:
    """The figures of one picture."""
    return ", ".join(
        f"{MEASURES[name].title} {value:.{MEASURES[name].digits}f}"
        for name, value in figures.items()
    )


def refuse_files(folder: Path) -> None:
    """UsageError where a report could replace a file."""
    if there := [name for name in (CSV, JSON, SHEET) if (folder / name).exists()]:
        raise UsageError(
            f"{folder / there[0]} is there already: take another --output, or move it."
        )


def write(done: Evaluation, folder: Path, count: int) -> None:
    """Writes all three; no sheet where no figure says which pictures are the worst. count: pictures on
    the sheet."""
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(["picture", *done.metrics])
    for pair, figures in zip(done.pairs, done.figures, strict=True):
        rows.writerow([pair.name, *figures.values()])
    intervals = {name: asdict(bootstrap(done.column(name))) for name in done.metrics}
    whole = {
        "settings": done.settings,
        "interval": f"{LEVEL:.0%}, percentile bootstrap",
        "metrics": intervals,
        "whole_set": dict(done.whole),
        "worst": [done.pairs[index].name for index in done.worst(count)],
        "pictures": {
            pair.name: figures for pair, figures in zip(done.pairs, done.figures, strict=True)
        },
    }
    for name, data in (
        (CSV, text.getvalue().encode("utf-8", "surrogateescape")),
        (JSON, json.dumps(whole, indent=1).encode()),
    ):
        with replacing(folder / name) as part:
            part.write_bytes(data)
    if done.metrics:
        with replacing(folder / SHEET) as part:
            sheet(done, count).save(part, "JPEG", quality=90)


def sheet(done: Evaluation, count: int) -> Any:
    """The worst pictures as rows: input, where there is one, result and original."""
    rows: list[list[Labeled]] = []
    for index in done.worst(count):
        pair = done.pairs[index]
        row: list[Labeled] = [
            (f"{printable(pair.name)}\n{sentence(done.figures[index])}", read_rgb(pair.result))
        ]
        if pair.reference is not None:
            row.append(("reference", read_rgb(pair.reference)))
        if pair.input is not None:
            row.insert(0, ("input", read_rgb(pair.input)))
        rows.append(row)
    return panel(rows, SHEET_WIDTH)
