"""list: what is there, what is missing, and which workflows that makes ready."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ...common.state_dict import CheckpointError
from ...common.text import printable
from ...registry import files as published_files
from ..shipped import shipped
from .choose import files_of, gigabytes
from .installed import Row, add_place_options, folders_of, installed


def list_command(options: argparse.Namespace) -> int:
    """Says which of the pack's models are where."""
    try:
        folders = folders_of(options)
    except CheckpointError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    rows = installed(folders)
    if options.json:
        print(json.dumps([row.as_dict() for row in rows], indent=2))
        return 0
    kind = None
    for row in rows:
        if row.kind != kind:
            kind = row.kind
            places = [str(folder) for folder in folders.get(kind, ())] or ["no folder"]
            print(f"\n{printable(f'{kind}: ' + ', '.join(places))}")
        print("\n".join(map(printable, _lines(row))))
    print()
    print("\n".join(_summary(rows)), flush=True)
    return 0


def _lines(row: Row) -> Iterator[str]:
    mark = "!" if row.problem else "x" if row.paths else " "
    yield f"  [{mark}] {row.name}{f': {row.what}' if row.what else ''}"
    if row.paths:
        yield from (f"        {line}" for line in (*row.paths, row.problem) if line)
        return
    file = published_files()[row.name]
    yield f"        missing, {file.size_text}; {file.url}"
    yield from (f"        {line}" for line in (file.remark, file.how) if line)
    yield f"        for {', '.join(row.workflows)}"


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    """Workflow by workflow: how much it needs and how much of that is missing."""
    there = {row.name for row in rows if row.url and row.paths and not row.problem}
    yield f"{len(there)} of {sum(bool(row.url) for row in rows)} files are there. Workflows:"
    lacking = False
    for workflow in shipped():
        files = files_of(workflow)
        missing = [file for file in files if file.name not in there]
        lacking |= bool(missing)
        state = _state([f.size for f in files], [f.size for f in missing])
        yield f"  [{' ' if missing else 'x'}] {workflow.title} ({workflow.name}): {state}"
    if lacking:
        yield "python -m tools get NAME fetches what a workflow lacks."


def _state(every: Collection[int], missing: Collection[int]) -> str:
    if not every:
        return "needs no files"
    whole = gigabytes(sum(every))
    if not missing:
        return f"{whole}, all there"
    return f"{whole}, {gigabytes(sum(missing))} missing ({len(missing)} of {len(every)} files)"


def add_commands(commands: Any) -> None:
    """Adds `list` to a parser's subparsers."""
    parser = commands.add_parser("list", help="which of the pack's models are installed")
    add_place_options(parser)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=list_command)
