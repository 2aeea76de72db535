"""The commands of `python -m tools`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """Of all commands; each sets `run`."""
    top = argparse.ArgumentParser(prog="python -m tools", description=__doc__)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in ("weights", "folder_runner"):
        importlib.import_module(f".{module}", __package__).add_commands(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return 130
