"""The command `evaluate`."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..folder.display import printable
from ..folder.errors import UsageError
from .measures import MEASURES, Measured
from .pairs import Pair, pair, pixels, read_rgb
from .report import Evaluation, Figures, refuse_files, table, worst_lines, write

WORST = 5


def measure(pair: Pair, measures: dict[str, Measured], crop_border: int) -> Figures:
    """The figures of one picture. Raises UsageError where it cannot be measured."""
    try:
        result, reference = (pixels(read_rgb(path)) for path in (pair.result, pair.reference))
        return {name: f(result, reference, crop_border).item() for name, f in measures.items()}
    except (ValueError, OSError) as error:
        raise UsageError(f"{pair.name}: {error}") from error


def evaluate(options: argparse.Namespace) -> Evaluation:
    """All that the command line asks for. Raises UsageError, and ValueError where a metric needs
    what is not on this machine."""
    if options.output is not None:
        refuse_files(options.output)
    paired = pair(options.results, options.reference, options.input)
    for line in paired.unpaired:
        print(printable(line), file=sys.stderr)
    measures = {name: MEASURES[name].load() for name in options.metrics}
    figures = [measure(each, measures, options.crop_border) for each in paired.pairs]
    settings = {
        "results": str(options.results),
        "reference": str(options.reference),
        "input": str(options.input) if options.input else None,
        "crop_border": options.crop_border,
    }
    return Evaluation(paired.pairs, figures, settings)


def run_command(options: argparse.Namespace) -> int:
    """0: all measured; 2: it could not."""
    try:
        done = evaluate(options)
        print(table(done))
        print("\nWorst:", *worst_lines(done, WORST), sep="\n")
        if options.output is not None:
            write(done, options.output, WORST)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        print(printable(error), file=sys.stderr)
        return 2
    return 0


def _metrics(text: str) -> Sequence[str]:
    names = list(dict.fromkeys(text.replace(" ", "").split(",")))
    if unknown := [name for name in names if name not in MEASURES]:
        raise argparse.ArgumentTypeError(
            f"there is no metric {unknown[0]}; there are {', '.join(MEASURES)}"
        )
    return [name for name in MEASURES if name in names]


def _border(text: str) -> int:
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError("expected 0 or more")
    return value


def add_commands(commands: Any) -> None:
    """Adds `evaluate` to a parser's subparsers."""
    parser = commands.add_parser("evaluate", help="figures of results against their originals")
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of restored pictures")
    parser.add_argument(
        "--reference", type=Path, required=True, metavar="DIR",
        help="folder of the originals, called as the results and exactly as large",
    )  # fmt: skip
    parser.add_argument(
        "--input", type=Path, metavar="DIR", help="folder of what was restored, for the sheet"
    )
    parser.add_argument(
        "--metrics", type=_metrics, default=["psnr", "ssim"], metavar="NAME,...",
        help=f"of {', '.join(MEASURES)} (psnr,ssim)",
    )  # fmt: skip
    parser.add_argument(
        "--crop-border", type=_border, default=0, metavar="N",
        help="pixels left out at every side; many papers leave out as many as the scale (0)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR",
        help="also write every figure as CSV and JSON, and a sheet of the worst pictures",
    )  # fmt: skip
    parser.set_defaults(run=run_command)
