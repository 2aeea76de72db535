"""check: whether this machine restores as the papers do."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...common.state_dict import CheckpointError
from ...common.text import printable
from ..comfyui.find import Host, HostError, find_host, read_host
from ..folder.errors import UsageError
from ..weights.installed import add_place_options, folders_of, installed
from . import hosted
from .environment import accelerator, environment
from .golden import run_cases
from .report import Report, verdict, write
from .weights import check_weights
from .workflows import Ran, run_workflows


def check_command(options: argparse.Namespace) -> int:
    """Writes the report; 0: all is well, 1: something is wrong, 2: it could not be written."""
    cpu = options.cpu or not accelerator()
    device = torch.device("cpu" if cpu else accelerator())
    try:
        host = _host(options)
        folders = folders_of(options) if host or options.models else {}
    except (HostError, CheckpointError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    say = _silent if options.quiet else _say
    say(f"Looking at this machine{f' and ComfyUI {host.version}' if host else ''} ...")
    report = Report(environment(host, cpu))
    asked = report.environment.get("host", {})
    if host and not asked:
        report.problems.append(report.environment["problem"])

    say(f"The authors' cases on {asked.get('device', device)} ...")
    half = getattr(torch, asked["unet"]) if asked else None
    report.cases = run_cases(device, half)
    if asked and host:
        try:
            report.cases += hosted.ask(host.path, cpu, half)
        except OSError as error:
            report.problems.append(str(error))
    for case in report.cases:
        say(f"  {case.case} {case.precision}: {verdict(case, case.problem)}")

    if folders:
        say("Weight files, each read whole ...")
        report.weights = check_weights(folders)
        for each in report.weights:
            say(f"  {each.file}: {verdict(each, each.problem)}")
    if asked and host and not options.no_workflows:
        report.workflows, problem = _workflows(host, cpu, folders, say)
        report.problems += [problem] if problem else []
    try:
        written = write(report, options.output, _places(host, folders))
    except OSError as error:
        print(f"The report cannot be written: {error}. Choose another --output.", file=sys.stderr)
        return 2
    print(f"{'passed' if report.passed else 'FAILED'}: {' and '.join(map(str, written))}")
    return 0 if report.passed else 1


def _say(line: str) -> None:
    print(printable(line), flush=True)


def _silent(line: str) -> None:
    pass


def _host(options: argparse.Namespace) -> Host | None:
    if options.comfyui is None:
        return find_host()
    if host := read_host(options.comfyui, "--comfyui"):
        return host
    raise HostError(f"{options.comfyui} holds no ComfyUI: --comfyui names its folder.")


def _workflows(
    host: Host, cpu: bool, folders: Mapping[str, Sequence[Path]], say: Callable[[str], None]
) -> tuple[list[Ran], str]:
    """(what ran, why no more did)."""
    rows = installed(folders)
    there = {row.name for row in rows if row.url and row.paths and not row.problem}
    ran = []
    try:
        for each in run_workflows(host.path, cpu, there):
            ran.append(each)
            if each.state != "not run":
                say(f"  {each.workflow}, {each.seconds:.1f} s: {verdict(each, each.why)}")
    except (HostError, UsageError) as error:
        return ran, str(error)
    return ran, ""


def _places(host: Host | None, folders: Mapping[str, Iterable[Path]]) -> dict[Path, str]:
    places = {folder: f"<models>/{kind}" for kind in folders for folder in folders[kind]}
    return {**places, **({host.path: "<ComfyUI>"} if host else {})}


def add_commands(commands: Any) -> None:
    """Adds `check` to a parser's subparsers."""
    parser = commands.add_parser(
        "check", help="whether this machine restores as the papers do, as a report"
    )
    add_place_options(parser)
    parser.add_argument("--cpu", action="store_true", help="not on the card")
    parser.add_argument(
        "--no-workflows", action="store_true", help="without starting ComfyUI: a matter of seconds"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("restoration-check"), metavar="NAME",
        help="of the report, .md and .json; default: restoration-check here",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="only the verdict")
    parser.set_defaults(run=check_command)
