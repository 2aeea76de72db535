"""inspect and convert, in words."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from ...common.diagnosis import PICKLES, SAFETENSORS
from ...common.recognition import Found
from ...common.state_dict import CheckpointError
from ...common.text import printable, size_words
from ..files import files_below, sha256
from .convert import convert, difference_sentence
from .files import (
    NETWORK_STEMS,
    SHARD,
    contents_size,
    network_files,
    read_weights,
)
from .known import dtypes, identify, other_file, with_numbers


def _units(path: Path) -> list[Path]:
    """What to look into: the path itself, or every network and file below a folder that is none."""
    if not os.path.isdir(path):
        return [path]
    units = [
        each.parent if _is_network(each) else each
        for each in files_below(path)
        if each.suffix.lower() in (*SAFETENSORS, *PICKLES) or other_file(each)
    ]
    return list(dict.fromkeys(units)) or [path]


def _is_network(path: Path) -> bool:
    """Whether a file is what its folder is read for, or a part of that."""
    if not path.stem.startswith(NETWORK_STEMS):
        return False
    if SHARD.search(path.stem):  # also where others are missing
        return True
    try:
        return path in network_files(path.parent)
    except CheckpointError:
        return False


def _facts(path: Path) -> tuple[dict[str, Any], Sequence[Path]]:
    """All that is known about one file but its sha256, and the files to take that of. Raises
    CheckpointError when it is not one of ours."""
    if found := other_file(path):
        paths: Sequence[Path] = (path,)
    else:
        source = read_weights(path)
        found = with_numbers(identify(source.contents, source.name, source.metadata))
        paths = source.paths
    return {
        "bytes": sum(each.stat().st_size for each in paths),
        "method": found.method,
        "version": found.version,
        "what": found.what,
        "folder": found.folder,
        "complete": found.complete,
        "weights": len(found.weights),
        "parameters": sum(dtypes(found.weights).values()),
        "dtypes": dtypes(found.weights),
        "missing": found.difference.missing,
        "unexpected": found.difference.unexpected,
        "reshaped": found.difference.reshaped,
        "not_finite": found.not_finite,
        "problem": found.problem or difference_sentence(found),
        "notes": found.notes,
    }, paths


def _described(facts: dict[str, Any], every_key: bool) -> list[str]:
    precision = ", ".join(
        f"{name}" if len(facts["dtypes"]) == 1 else f"{name} ({count:,})"
        for name, count in facts["dtypes"].items()
    )
    lines = [
        f"{facts['file']} ({size_words(facts['bytes'])})",
        f"  what        {facts['what']}",
        f"  method      {facts['method']}, version {facts['version']}",
    ]
    if facts["weights"]:
        count = f"{facts['weights']}, {facts['parameters']:,} parameters, {precision}"
        lines += [f"  weights     {count}"]
    lines += [f"  complete    {'yes' if facts['complete'] else 'NO: ' + facts['problem']}"]
    if every_key:
        lines += [f"    {word:<11} {key}" for kind, word in KINDS.items() for key in facts[kind]]
    lines += [f"  note        {note}" for note in facts["notes"]]
    folder = f"models/{facts['folder']}" if facts["folder"] else "the pack's own folder"
    return [*lines, f"  belongs in  {folder}"]


KINDS = {
    "missing": "missing",
    "unexpected": "unexpected",
    "reshaped": "reshaped",
    "not_finite": "not finite",
}


def _say(*lines: str, to: TextIO | None = None) -> None:
    """Lines for people. Keys and names in them come out of files: none may steer the terminal."""
    for line in lines:
        print(printable(line), file=to, flush=True)


def inspect_command(options: argparse.Namespace) -> int:
    """Says of every file what it is; 1 when any is not one of ours, not whole or unreadable."""
    failed, every = False, []
    say = (lambda *lines: None) if options.json else _say
    units = [unit for path in options.files for unit in _units(path)]
    for path in dict.fromkeys(units):
        if every:
            say("")
        facts: dict[str, Any] = {"file": str(path)}
        every.append(facts)
        try:
            known, paths = _facts(path)
            facts |= known
            failed |= not facts["complete"]
            say(*_described(facts, options.keys))  # before the digests, which take a while
            facts["sha256"] = {}
            for each in paths:
                facts["sha256"][each.name] = digest = sha256(each)
                say(f"  sha256      {digest}  {each.name}")
        except (CheckpointError, OSError) as error:
            failed = True
            facts["error"] = str(error)
            say(str(path), f"  {error}")
    if options.json:
        print(json.dumps(every, indent=2))
    return int(failed)


def convert_command(options: argparse.Namespace) -> int:
    """Converts; 1 with a sentence when that cannot be done."""
    try:
        done = convert(options.files, options.output, options.force, partial(_say, to=sys.stderr))
    except CheckpointError as error:
        _say(str(error), to=sys.stderr)
        return 1
    except OSError as error:
        _say(f"Nothing was written: {error}. Choose another --output.", to=sys.stderr)
        return 1
    _say(_converted_line(done.written, done.path, done.found), f"sha256 {done.sha256}")
    return 0


def _converted_line(written: bool, path: Path, found: Found) -> str:
    state = "Wrote" if written else "Already converted from the same sources:"
    size = size_words(contents_size(found.weights))
    return (
        f"{state} {path} ({found.method}, version {found.version}, {size}). "
        f"It belongs in models/{found.folder}."
    )


def add_commands(commands: Any) -> None:
    """Adds both commands to a parser's subparsers."""
    parser = commands.add_parser("inspect", help="which file a file is, and what it lacks")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="or a folder")
    parser.add_argument("--keys", action="store_true", help="name every key that is wrong")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=inspect_command)

    parser = commands.add_parser("convert", help="published files into one safetensors")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="a file, a release's folder with unet and controlnet, or the two files of it",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, help="a folder, or a name ending in .safetensors; default: beside it",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.set_defaults(run=convert_command)
