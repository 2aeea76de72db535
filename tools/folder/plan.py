"""What a run will do, decided before anything runs; whatever is refused is refused here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files import sha256
from .errors import UsageError
from .manifest import NAME, State
from .names import named_apart, refuse_inputs
from .output import Output
from .saving import Order, Task

SHOWN = 3
"""Files that a sentence names."""


@dataclass(frozen=True)
class Settled:
    """A picture that needs no work."""

    task: Task
    kind: str
    """skipped, kept or failed, as the tally counts it."""
    why: str


@dataclass
class Plan:
    """Every picture, in one of the two."""

    tasks: list[Task] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)


def plan(pictures: Mapping[Path, Path], output: Output, order: Order, again: bool) -> Plan:
    """Compares the pictures (path -> name below the output folder) with what the manifest has.

    again: work on what is done, too. Raises UsageError where a result could land on a picture of
    the run, on a file that no line of the manifest made, or on another result.
    """
    made, named = Plan(), []
    for path, name in pictures.items():
        task = Task(path, name, name, "", order)
        try:
            named.append(Task(path, name, name, sha256(path), order))
        except OSError as error:
            made.settled.append(Settled(task, "failed", f"{path.name} cannot be read: {error}"))
    tasks = named_apart(named, output)
    refuse_inputs(tasks, pictures, output)
    foreign = []
    for task in tasks:
        try:
            settled = _settled(task, output, again)
        except OSError as error:
            settled = Settled(task, "failed", f"its result cannot be read: {error}")
        if settled is not None:
            made.settled.append(settled)
            continue
        made.tasks.append(task)
        if output.manifest.state(task.file()) is State.FOREIGN and not output.manifest.adopt(
            task.file(), task.identity()
        ):
            foreign.append(task.file())
    if foreign:
        raise UsageError(
            f"{_some(foreign)} in {output.folder} would be replaced, but no line of {NAME} made "
            "that: take another --output, or move it away."
        )
    return made


def _settled(task: Task, output: Output, again: bool) -> Settled | None:
    """Why a picture needs no work; None: it does. OSError where a result cannot be read."""
    if not again:
        changed = []
        for record in output.manifest.done(task.key):
            files = {each["file"]: each["sha256"] for each in record["outputs"]}
            names = [task.file(number, len(files)) for number in range(1, len(files) + 1)]
            if record["input"] != str(task.path) and list(files) != names:
                continue  # an equal picture's
            states = {f: output.manifest.state(f, digest) for f, digest in files.items()}
            if all(state is State.OURS for state in states.values()):
                return Settled(task, "skipped", "skipped, done already")
            changed += [file for file, state in states.items() if state is State.CHANGED]
        if not changed and output.manifest.state(task.file()) is State.CHANGED:
            changed.append(task.file())
        if changed:
            why = f"kept, {changed[0]} was changed since it was made (--again replaces it)"
            return Settled(task, "kept", why)
    name = Path(task.file()).name
    if (size := len(os.fsencode(name))) > (limit := _longest_name(output.folder)):
        why = f"{name} has {size} bytes, and a file's name at most {limit}: shorten the photo's"
        return Settled(task, "failed", why)
    if output.is_taken(task.file(), task.path, task.sha256):
        why = f"{task.file()} is the result of another picture: take another --output"
        return Settled(task, "failed", why)
    return None


def _longest_name(folder: Path) -> int:
    """In bytes."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows, and file systems that do not say
        return 255


def _some(files: Sequence[str]) -> str:
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return f"{', '.join(files[:SHOWN])}{more}"
