"""Where a run keeps what it makes. Whatever has a step's number is whole: it was written beside its
place and renamed.

    config.toml     every value of the run
    log.csv         a line for every step
    checkpoints/    STEP/: what is needed to go on; the last few
    export/         STEP/: files for the loader nodes
    samples/        STEP/: restored pictures
    tensorboard/
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import TrainingError

DIGITS = 8


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: str | Path) -> None:
        if not str(path):
            raise TrainingError("run.folder is empty: name the folder that the run fills.")
        self.path = Path(path)

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def log(self) -> Path:
        return self.path / "log.csv"

    def place(self, kind: str, step: int) -> Path:
        """The folder of one step. kind: `checkpoints`, `export`, `samples`."""
        return self.path / kind / f"{step:0{DIGITS}}"

    def steps(self, kind: str) -> list[int]:
        """The steps that have a whole folder, ascending."""
        with contextlib.suppress(FileNotFoundError):
            names = (each.name for each in (self.path / kind).iterdir() if each.is_dir())
            return sorted(int(name) for name in names if name.isdecimal())
        return []

    def begin(self) -> None:
        """Makes the folder for a new run. TrainingError where a run is in it already."""
        if self.steps("checkpoints"):
            raise TrainingError(
                f"{self.path} holds a run with checkpoints: go on with --resume latest, or choose "
                "another run.folder."
            )
        self.path.mkdir(parents=True, exist_ok=True)

    def checkpoint(self, which: str) -> Path:
        """The folder that --resume names: `latest` or a step. TrainingError: there is none."""
        steps = self.steps("checkpoints")
        if which == "latest" and steps:
            return self.place("checkpoints", steps[-1])
        if which.isdecimal() and int(which) in steps:
            return self.place("checkpoints", int(which))
        there = f"there are {', '.join(map(str, steps))}" if steps else "there is none"
        raise TrainingError(f"{self.path} has no checkpoint {which!r}: {there}.")

    def sweep(self) -> None:
        """Removes what killed runs left half-written."""
        for kind in ("checkpoints", "export", "samples"):
            for part in (self.path / kind).glob(".*.part"):
                shutil.rmtree(part)

    def forget(self, kind: str, keep: int) -> None:
        """Removes all but the last `keep`; 0: none is removed."""
        for step in self.steps(kind)[: -keep if keep else 0]:
            shutil.rmtree(self.place(kind, step))


def part_of(folder: Path) -> Path:
    """Where a folder is written until it is whole."""
    return folder.with_name(f".{folder.name}.part")


def clear(folder: Path) -> Path:
    """An empty place to write `folder` in; what a killed run left there is gone."""
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def finish(folder: Path) -> None:
    """Puts what `clear` gave in its place. On disk before it has the name: a machine that loses
    power leaves the one before whole."""
    part = part_of(folder)
    for path in part.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    if folder.exists():  # of the same step of the same run: the same
        shutil.rmtree(folder)
    part.rename(folder)
    if os.name != "nt":
        handle = os.open(folder.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to write to, which becomes `folder` at the end of the block, or is removed when the
    block fails."""
    part = clear(folder)
    try:
        yield part
        finish(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
