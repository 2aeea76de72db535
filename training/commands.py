"""The commands: one for every part, `data` and `proof`."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..common.state_dict import CheckpointError
from .config import Config, absolute, make_config, read_toml, with_settings
from .errors import TrainingError
from .parts import PARTS, part_module
from .presets import preset

ABOUT = "Trains what the methods add, on the networks that run. See docs/training.md."


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run`."""
    from .data import commands as data
    from .proof import command as proof

    top = argparse.ArgumentParser(prog="training", description=ABOUT)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for part in PARTS:
        module = part_module(part)
        about = (module.__doc__ or part).strip().split("\n\n")[0]
        one = commands.add_parser(part, help=about, description=about)
        add_config(one)
        one.add_argument(
            "--resume", default="", metavar="STEP", help="go on: `latest`, or a step's number"
        )
        one.add_argument(
            "--dry-run",
            action="store_true",
            help="say sizes, trained keys and memory, take one step, and write nothing",
        )
        one.set_defaults(run=run_training, part=part)
    data.add_commands(commands)
    proof.add_command(commands)
    return top


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config` and `--set`, which all commands share."""
    parser.add_argument("--config", required=True, type=Path, help="the run's TOML file")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="SECTION.KEY=VALUE",
        help="a value over the file's, such as optimizer.lr=1e-5; may be repeated",
    )


def read_config(file: Path, settings: Sequence[str], part: str = "") -> Config:
    """A run's configuration: the file over its preset, `--set` over both; relative paths from the
    file's folder. part: what the command names; empty: whatever the preset trains.

    Raises TrainingError.
    """
    table = with_settings(read_toml(file), settings)
    values = {}
    named = str(table.get("part", part))
    if authors := table.get("authors"):
        named, values = preset(str(authors))
    if not named:
        raise TrainingError(f"{file} does not say what is trained: add authors = or part =.")
    if part and named != part:
        raise TrainingError(
            f"{file} is for {named} (authors = {table.get('authors', '')!r}), and the command is "
            f"{part}: call `{named}`, or name another preset."
        )
    if named not in PARTS:
        raise TrainingError(f"{file}: part = {named!r}; there are {', '.join(PARTS)}.")
    config = make_config(named, part_module(named).Model, values, table, str(file))
    return absolute(config, file.resolve().parent)


def run_training(options: argparse.Namespace) -> int:
    """One of the parts' commands."""
    config = read_config(options.config, options.settings, options.part)
    from .dry_run import dry_run
    from .loop import make_accelerator, train

    accelerator = make_accelerator(config)
    if not accelerator.is_main_process:
        logging.getLogger().setLevel(logging.WARNING)
    from .base import open_comfyui

    open_comfyui(accelerator.device)
    opened = part_module(options.part).open_part(config)
    if options.dry_run:
        for line in dry_run(config, opened, accelerator):
            if accelerator.is_main_process:
                print(line)
        return 0
    done = train(config, opened, accelerator, options.resume)
    return 0 if done == config.run.steps else 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code. What the user can mend is one sentence."""
    options = command_parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it tells every file that it saves
    try:
        return options.run(options)
    except (TrainingError, CheckpointError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
