"""Every apply node of ours with every node of the host that takes and gives a MODEL.

Usage: bash scripts/matrix.sh [--host PATH ...] [--ours NAME ...] [--theirs NAME ...] [--seed 0]
                              [--only pairs|samplers] [--verbose]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import itertools
import logging
import runpy
import subprocess
import sys
import tempfile
import time
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restoration.tests.matrix.cells import Cell

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("ran", "sentence", "skipped", "limit", "fault")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def register() -> None:
    runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()


def load_core_nodes() -> Any:
    """The host's nodes module with all that the host itself loads."""
    with contextlib.suppress(ImportError):
        # First, as the host's program does: later `utils` is another module of the host's.
        importlib.import_module("utils.install_util")
    import nodes

    failed = asyncio.run(nodes.init_builtin_extra_nodes())
    if failed:
        say(f"Not loaded by the host: {', '.join(failed)}")
    return nodes


def chosen(names: list[str], patterns: list[str] | None) -> list[str]:
    if not patterns:
        return names
    found = [name for name in names if any(fnmatchcase(name, each) for each in patterns)]
    if not found:
        raise SystemExit(f"no name is {' or '.join(patterns)}; there are: {', '.join(names)}")
    return found


def work(options: argparse.Namespace) -> int:
    """The matrix of one host, in this process."""
    register()
    import torch

    from restoration.tools.comfyui.inprocess import import_comfyui

    torch.set_num_threads(1)
    host = Path(options.worker)
    base = Path(tempfile.mkdtemp(prefix="restoration-matrix-"))
    import_comfyui(host, base)
    core = load_core_nodes()
    logging.disable(logging.WARNING)
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    from restoration.tests.matrix.cells import Matrix, core_nodes, run_cells
    from restoration.tests.matrix.columns import columns
    from restoration.tests.matrix.samplers import sampler_cells, sampler_names, stack_names

    matrix = Matrix(host, base / "models", options.seed)
    for kind in ("small", "twelve"):
        matrix.scene(kind, 1)  # whose files the menus of loaders then list
    ours, (theirs, like_of) = columns(), core_nodes(core)
    pairs, runs = options.only != "samplers", options.only != "pairs"
    mine = chosen([each.name for each in ours] * pairs + stack_names() * runs, options.ours)
    with_ = chosen([each.name for each in theirs] * pairs + sampler_names() * runs, options.theirs)
    cells: list[Cell] = []
    for cell in itertools.chain(
        run_cells(
            matrix,
            [each for each in ours if pairs and each.name in mine],
            [each for each in theirs if pairs and each.name in with_],
        ),
        sampler_cells(
            matrix,
            ours,
            [each for each in stack_names() if runs and each in mine],
            [each for each in sampler_names() if runs and each in with_],
        ),
    ):
        cells.append(cell)
        tell(cell, options)
    for name, others in like_of.items():
        say(f"\n{name} stands for {', '.join(others)}, which run its code.")
    return summary(cells, options)


def tell(cell: Cell, options: argparse.Namespace) -> None:
    if cell.kind == "fault":
        say(f"\nFAULT {cell.ours} x {cell.theirs}, {cell.order}: {cell.check}: {cell.text}")
        words = f"--host {options.worker} --ours {cell.ours!r} --theirs {cell.theirs!r}"
        say(f"  again: bash scripts/matrix.sh {words} --seed {options.seed}")
    elif options.verbose:
        where = f"{cell.ours} x {cell.theirs}, {cell.order}"
        say(f"{cell.seconds:6.2f} s {cell.kind} {where}: {cell.check} {cell.text}")


def summary(cells: list[Cell], options: argparse.Namespace) -> int:
    from restoration.tests.matrix.limits import LIMITS

    counts: dict[str, Counter[str]] = {}
    for cell in cells:
        counts.setdefault(cell.ours, Counter())[cell.kind] += 1
    skipped = Counter((c.theirs, c.text) for c in cells if c.kind == "skipped")
    sentences = Counter((c.theirs, c.text) for c in cells if c.kind == "sentence")
    for title, found in (("Skipped", skipped), ("Sentences", sentences)):
        if found:
            say(f"\n{title}:")
            for (theirs, text), number in sorted(found.items()):
                say(f"  {number:>3} {theirs}: {text[:200]}")
    met = Counter(cell.text for cell in cells if cell.kind == "limit")
    if met:
        say("\nKnown limits:")
        for because, number in met.items():
            say(f"  {number:>3} {because}")
    if not options.ours and not options.theirs and not options.only:
        for limit in LIMITS:
            if limit.because not in met:
                say(f"  not met here: {limit.ours} x {limit.theirs}, {limit.check}")
    from comfyui_version import __version__

    say(f"\nComfyUI {__version__}, seed {options.seed}")
    say(f"{'':<28}" + "".join(f"{kind.upper() if kind == 'fault' else kind:>10}" for kind in KINDS))
    total: Counter[str] = Counter()
    for name, each in counts.items():
        say(line(name, each))
        total += each
    say(line("all", total))
    return 1 if total["fault"] or not total["ran"] else 0


def line(name: str, counts: Counter[str]) -> str:
    return f"{name:<28}" + "".join(f"{counts[kind]:>10}" for kind in KINDS)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/matrix.sh", description=__doc__)
    parser.add_argument("--host", action="append", type=Path, help="a ComfyUI; all found if none")
    parser.add_argument("--ours", action="append", metavar="NAME", help="with * for any letters")
    parser.add_argument("--theirs", action="append", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="other networks, texts and pictures")
    parser.add_argument("--only", choices=("pairs", "samplers"))
    parser.add_argument("--verbose", action="store_true", help="every cell")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        return work(options)
    register()
    from restoration.tools.comfyui.find import find_hosts, read_host

    hosts = options.host or [host.path for host in find_hosts()]
    if not hosts:
        parser.error("no ComfyUI found: set COMFYUI_PATH or name one with --host")
    if wrong := [str(path) for path in hosts if read_host(path.expanduser(), "--host") is None]:
        parser.error(f"no ComfyUI in {', '.join(wrong)}")
    codes = []
    for path in hosts:
        started = time.monotonic()
        words = [sys.executable, str(Path(__file__)), "--worker", str(path.expanduser().resolve())]
        words += ["--seed", str(options.seed), *["--verbose"] * options.verbose]
        words += ["--only", options.only] if options.only else []
        for flag, names in (("--ours", options.ours), ("--theirs", options.theirs)):
            words += [word for name in names or () for word in (flag, name)]
        codes.append(subprocess.run(words).returncode)
        say(f"{time.monotonic() - started:.0f} s" + f", exit status {codes[-1]}" * bool(codes[-1]))
    return int(any(codes))


if __name__ == "__main__":
    raise SystemExit(main())
