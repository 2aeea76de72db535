"""The commands of `python -m tools`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

MODULES = (
    "weights.doctor", "weights.listing", "weights.get.command", "folder.run", "evaluate.command",
    "check.command",
)  # fmt: skip
ABOUT = (
    "Fetches, looks at and converts weight files, sends folders of pictures through a workflow, "
    "and measures results."
)


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run`."""
    top = argparse.ArgumentParser(prog="python -m tools", description=ABOUT)
    commands = top.add_subparsers(metavar="COMMAND")
    for module in MODULES:
        importlib.import_module(f".{module}", __package__).add_commands(commands)
    return top


def main(
    arguments: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None
) -> int:
    """Runs one command; its exit code."""
    parser = parser or command_parser()
    options = parser.parse_args(arguments)
    if "run" not in options:
        parser.print_help()
        return 2
    try:
        return options.run(options)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return 130
    except BrokenPipeError:  # head and less close the pipe when they have seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still unsaid
        return 1
