"""inspect, convert and list, in words."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..common.state_dict import CheckpointError
from .convert import convert, difference_sentence
from .files import contents_size, read_weights, sha256
from .known import Found, dtypes, identify


def _facts(path: Path) -> dict[str, Any]:
    """All that is known about one file. Raises CheckpointError when it is not one of ours."""
    source = read_weights(path)
    found = identify(source.contents, source.name, source.metadata)
    return {
        "file": str(path),
        "bytes": sum(each.stat().st_size for each in source.paths),
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
        "problem": found.problem or difference_sentence(found),
        "notes": found.notes,
        "sha256": {each.name: sha256(each) for each in source.paths},
    }


def _described(facts: dict[str, Any], every_key: bool) -> list[str]:
    precision = ", ".join(
        f"{name}" if len(facts["dtypes"]) == 1 else f"{name} ({count:,})"
        for name, count in facts["dtypes"].items()
    )
    lines = [
        f"{facts['file']} ({facts['bytes'] / 2**20:,.1f} MiB)",
        f"  what        {facts['what']}",
        f"  method      {facts['method']}, version {facts['version']}",
        f"  weights     {facts['weights']}, {facts['parameters']:,} parameters, {precision}",
        f"  complete    {'yes' if facts['complete'] else 'NO: ' + facts['problem']}",
    ]
    if every_key:
        lines += [f"    {kind:<11} {key}" for kind in KINDS for key in facts[kind]]
    lines += [f"  note        {note}" for note in facts["notes"]]
    lines += [f"  belongs in  models/{facts['folder']}"]
    lines += [f"  sha256      {digest}  {name}" for name, digest in facts["sha256"].items()]
    return lines


KINDS = ("missing", "unexpected", "reshaped")


def inspect_command(options: argparse.Namespace) -> int:
    """Says of every file what it is; 1 when any is not one of ours, not whole or unreadable."""
    failed, facts = False, []
    for path in options.files:
        try:
            facts.append(_facts(path))
        except CheckpointError as error:
            failed = True
            facts.append({"file": str(path), "error": str(error)})
        else:
            failed |= not facts[-1]["complete"]
        if not options.json:
            last = facts[-1]
            lines = _described(last, options.keys) if "error" not in last else [_refusal(last)]
            print("\n".join(lines), end="\n\n" if path != options.files[-1] else "\n")
    if options.json:
        print(json.dumps(facts, indent=2))
    return int(failed)


def _refusal(facts: dict[str, Any]) -> str:
    return f"{facts['file']}\n  {facts['error']}"


def convert_command(options: argparse.Namespace) -> int:
    """Converts; 1 with a sentence when that cannot be done."""
    try:
        done = convert(options.files, options.output, options.force)
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 1
    print(_converted_line(done.written, done.path, done.found))
    print(f"sha256 {done.sha256}")
    return 0


def _converted_line(written: bool, path: Path, found: Found) -> str:
    state = "Wrote" if written else "Already converted from the same sources:"
    size = contents_size(found.weights) / 2**20
    return (
        f"{state} {path} ({found.method}, version {found.version}, {size:,.1f} MiB). "
        f"It belongs in models/{found.folder}."
    )


def list_command(options: argparse.Namespace) -> int:
    """Says which of the pack's models are where."""
    from .installed import installed, model_folders  # reads the workflows' table of files

    try:
        folders = model_folders(options.comfyui, options.models, options.extra_model_paths)
    except CheckpointError as error:
        print(error, file=sys.stderr)
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
            print(f"\n{kind}: {', '.join(places)}")
        mark = "!" if row.problem else "x" if row.paths else " "
        print(f"  [{mark}] {row.name}{f': {row.what}' if row.what else ''}")
        lines = [*row.paths, row.problem] if row.paths else [f"missing; {row.url}"]
        print("".join(f"        {line}\n" for line in lines if line), end="")
    return 0


def add_commands(commands: Any) -> None:
    """Adds the three commands to a parser's subparsers."""
    parser = commands.add_parser("inspect", help="which file a file is, and what it lacks")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="or a network's folder")
    parser.add_argument("--keys", action="store_true", help="name every key that is wrong")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=inspect_command)

    parser = commands.add_parser("convert", help="published files into one safetensors")
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="a file, a release's folder with unet and controlnet, or the two files of it",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, help="file or folder; default: beside it")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.set_defaults(run=convert_command)

    parser = commands.add_parser("list", help="which of the pack's models are installed")
    parser.add_argument("--comfyui", type=Path, help="ComfyUI's folder; default: around the pack")
    parser.add_argument("--models", type=Path, help="its models folder, when it lies elsewhere")
    parser.add_argument(
        "--extra-model-paths", type=Path, action="append", default=[], metavar="YAML",
        help="as ComfyUI's --extra-model-paths-config; its own extra_model_paths.yaml counts anyway",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=list_command)
