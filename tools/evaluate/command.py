"""The command `evaluate`."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from ..comfyui.client import PromptError
from ..comfyui.find import HostError
from ..folder.backends import add_options
from ..folder.display import printable
from ..folder.errors import UsageError
from .benchmark import HIGH, LOW, WORKFLOW, folders_of, restore
from .measures import MEASURES, Measuring, OfPicture
from .pairs import Pair, pair, pixels, read_rgb
from .published import SETS, PublishedSet, comparison, set_called
from .report import Evaluation, Figures, means, refuse_files, table, worst_lines, write

WORST = 5
ALONE = [name for name, measure in MEASURES.items() if isinstance(measure, OfPicture)]
"""Figures that need no originals."""


def measure(pair: Pair, measuring: Measuring, crop_border: int) -> Figures:
    """The figures of one picture. Raises UsageError where it cannot be measured."""
    try:
        result = pixels(read_rgb(pair.result))
        reference = pixels(read_rgb(pair.reference)) if pair.reference else None
        return measuring.add(result, reference, crop_border)
    except (ValueError, OSError) as error:
        raise UsageError(f"{pair.name}: {error}") from error


def evaluate(options: argparse.Namespace) -> Evaluation:
    """All that the command line asks for. Raises UsageError, and ValueError where a metric needs
    what is not on this machine; with --benchmark also what `run` raises."""
    check(options)
    measuring = Measuring(options.metrics)  # before a benchmark's hours of work
    if options.benchmark:
        options.input, options.reference = folders_of(options.benchmark)
        options.results = restore(options.input, options)
    paired = pair(options.results, options.reference, options.input)
    for line in paired.unpaired:
        print(printable(line), file=sys.stderr)
    figures = [measure(each, measuring, options.crop_border) for each in paired.pairs]
    settings = {
        "results": str(options.results),
        "reference": str(options.reference) if options.reference else None,
        "input": str(options.input) if options.input else None,
        "crop_border": options.crop_border,
    }
    return Evaluation(paired.pairs, figures, measuring.whole(), settings)


def check(options: argparse.Namespace) -> None:
    """Raises UsageError where options miss or contradict each other."""
    if options.output is not None:
        refuse_files(options.output)
    if options.benchmark:
        if options.results or options.reference or options.input:
            raise UsageError("--benchmark has all pictures: leave RESULTS and the other DIRs out.")
        if options.output is None:
            raise UsageError("--benchmark needs --output: the restored pictures are kept there.")
    elif options.results is None:
        raise UsageError("Name RESULTS, or a published set by --benchmark.")
    elif options.reference is None and not set(options.metrics) <= set(ALONE):
        raise UsageError(
            f"Name the originals by --reference. Without them there is --metrics {','.join(ALONE)}."
        )


def chosen_set(options: argparse.Namespace) -> PublishedSet | None:
    """Whose published lines are asked for."""
    if options.set:
        return SETS[options.set]
    return set_called(options.benchmark.resolve().name) if options.benchmark else None


def beside(done: Evaluation, options: argparse.Namespace) -> str:
    """The published lines and ours; empty where none are asked for."""
    published = chosen_set(options)
    if published is None:
        if options.benchmark:
            return f"Whose lines belong beside these? Add --set {' or '.join(SETS)}."
        return ""
    name = Path(options.workflow).name if options.benchmark else options.results.name
    text = f"{published.title}:\n{comparison(published, printable(name), means(done))}"
    if (count := len(done.pairs)) != published.pictures:
        text += f"\nThe papers have {published.pictures} pictures, here are {count}."
    return text


def run_command(options: argparse.Namespace) -> int:
    """0: all measured; 2: it could not."""
    try:
        done = evaluate(options)
        print(table(done))
        if worst := worst_lines(done, WORST):
            print("\nWorst:", *worst, sep="\n")
        if text := beside(done, options):
            print(f"\n{text}")
        if options.output is not None:
            write(done, options.output, WORST)
    except BrokenPipeError:
        raise
    except (HostError, PromptError, ValueError, OSError) as error:
        print("\n".join(map(printable, f"{error}".split("\n"))), file=sys.stderr)
        return 2
    return 0


def _metrics(text: str) -> list[str]:
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
    parser.add_argument(
        "results", type=Path, nargs="?", metavar="RESULTS", help="folder of restored pictures"
    )
    parser.add_argument(
        "--reference", type=Path, metavar="DIR",
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
    parser.add_argument(
        "--set", choices=SETS, help="print the papers' lines for this set beside ours"
    )
    group = parser.add_argument_group(
        "a published set", "restores it first, on the server or servers that are named as for `run`"
    )
    group.add_argument(
        "--benchmark", type=Path, metavar="DIR",
        help=f"folder with {LOW} and {HIGH}; called after a set, it needs no --set",
    )  # fmt: skip
    group.add_argument(
        "--workflow", default=WORKFLOW, metavar="NAME",
        help=f"the name of a shipped one, or a file in API form ({WORKFLOW})",
    )  # fmt: skip
    group.add_argument("--seed", type=int, help="for every seed of the workflow")
    group.add_argument("--timeout", type=float, default=3600.0, help="seconds a picture may take")
    add_options(parser)
    parser.set_defaults(run=run_command)
