"""What results are called, so that none lands on another one or on a photo."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .errors import UsageError
from .output import Output
from .saving import Task

NUMBERED = re.compile(r"(.*)_[1-9]\d*(\.[^.]*)", re.S)
"""The file of one of several results: what is before the number, and the extension."""


def named_apart(tasks: Sequence[Task], output: Output) -> list[Task]:
    """Tasks that come with the photos' names, with those of their results: without the photo's
    extension, but with it where a.jpg and a.png would meet, or where another picture's result is
    called so. Numbered results keep it where a.gif's second one and a_2.jpg's only one would meet.

    Raises UsageError where that does not tell them apart.
    """
    chosen = [_named(task, task.name.with_suffix("")) for task in tasks]
    while True:
        crowd = Counter(output.fold(str(task.name)) for task in chosen)
        moved = [
            whole if crowd[output.fold(str(task.name))] > 1 or _is_taken(task, output) else task
            for task, whole in zip(chosen, tasks, strict=True)
        ]
        if moved == chosen:
            break
        chosen = moved
    first: dict[str, Task] = {}
    for task in chosen:
        other = first.setdefault(output.fold(str(task.name)), task)
        if other is not task:
            raise UsageError(
                f"{other.path} and {task.path} would both become {task.name}: run their folders "
                "one by one, each with an --output of its own."
            )
    singles = {task.file() for task in chosen}
    singles |= {f for f, r in output.manifest.writers().items() if len(r["outputs"]) == 1}
    found = (NUMBERED.fullmatch(output.fold(file)) for file in singles)
    occupied = {match[1] + match[2] for match in found if match}
    return [
        replace(task, base=whole.name) if output.fold(task.file()) in occupied else task
        for task, whole in zip(chosen, tasks, strict=True)
    ]


def refuse_inputs(tasks: Iterable[Task], pictures: Iterable[Path], output: Output) -> None:
    """UsageError where a result, one of several or not, could land on a picture of this run,
    whatever link or spelling leads there."""
    inputs = {mark: path for path in pictures for mark in _marks(path, output)}
    numbered = _numbered_files(output)
    for task in tasks:
        base = _named(task, task.base).file()
        for file in (task.file(), *numbered[output.fold(base)]):
            hits = [inputs[mark] for mark in _marks(output.folder / file, output) if mark in inputs]
            if hits:
                raise UsageError(
                    f"The result of {task.path} could become {output.folder / file}, which is "
                    f"{hits[0]}, a picture of this run: take another --output."
                )


def _named(task: Task, name: Path) -> Task:
    return replace(task, name=name, base=name)


def _is_taken(task: Task, output: Output) -> bool:
    return output.is_taken(task.file(), task.path, task.sha256)


def _numbered_files(output: Output) -> dict[str, list[str]]:
    """File of an only result -> files in the output folder that are called as one of several."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    for folder, _, names in os.walk(output.folder):
        for name in names:
            file = Path(folder, name).relative_to(output.folder).as_posix()
            if match := NUMBERED.fullmatch(output.fold(file)):
                files[match[1] + match[2]].append(file)
    return files


def _marks(path: Path, output: Output) -> Iterator[object]:
    """What two ways to one file have in common."""
    yield output.fold(os.path.realpath(path))
    with contextlib.suppress(OSError):  # not there, or a name too long to be
        if (status := path.stat()).st_ino:
            yield status.st_dev, status.st_ino
