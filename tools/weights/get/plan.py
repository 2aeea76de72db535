"""What of the wanted files is there, what is missing, where it goes, and whether the disks take it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ....common.method import WeightFile
from ...files import part_of
from ..choose import counted, gigabytes
from ..installed import Row, installed
from .download import RESERVE


@dataclass(frozen=True)
class Wanted:
    """One file of the plan."""

    file: WeightFile
    target: Path
    """Where it goes."""
    there: str = ""
    """Where it is; empty: it is missing."""
    blocked: str = ""
    """Why it cannot be fetched although it is missing; empty: it can."""
    arrived: int = 0
    """Bytes of it that an earlier run has brought."""

    @property
    def to_come(self) -> int:
        """Bytes that are missing, about."""
        return max(0, self.file.size - self.arrived)


def _wanted(file: WeightFile, row: Row, target: Path) -> Wanted:
    if row.paths and not row.problem:
        return Wanted(file, target, there=row.paths[0])
    if row.problem:
        why = f"{row.problem} Move {row.paths[0]} away and run the command again."
        return Wanted(file, target, blocked=why)
    if os.path.lexists(target):
        why = f"{target} is there, and it is no file that can be read: move it away."
        return Wanted(file, target, blocked=why)
    part = part_of(target)
    return Wanted(file, target, arrived=part.stat().st_size if part.is_file() else 0)


@dataclass(frozen=True)
class Plan:
    """All wanted files, each once."""

    every: tuple[Wanted, ...]

    @property
    def missing(self) -> list[Wanted]:
        return [each for each in self.every if not each.there and not each.blocked]

    @property
    def lines(self) -> list[str]:
        """The plan in words."""
        return [line for each in self.every for line in _lines(each)] + [self.summary]

    @property
    def summary(self) -> str:
        whole = sum(each.file.size for each in self.every)
        to_come = sum(each.to_come for each in self.missing)
        there = sum(bool(each.there) for each in self.every)
        words = f"{there} of {counted(len(self.every))} there"
        return f"{words}; {gigabytes(to_come)} of {gigabytes(whole)} to fetch."

    def shortage(self) -> str:
        """A sentence for disks that do not take all that is missing; empty: there is room."""
        needed: dict[int, int] = {}
        folders: dict[int, Path] = {}
        for each in self.missing:
            folder = next(parent for parent in each.target.parents if parent.is_dir())
            device = folder.stat().st_dev
            needed[device] = needed.get(device, 0) + each.to_come
            folders.setdefault(device, folder)
        for device, size in needed.items():
            if size + RESERVE > (free := shutil.disk_usage(folders[device]).free):
                return (
                    f"The disk of {folders[device]} has {gigabytes(free)} free, and "
                    f"{gigabytes(size)} are to come: free some space, fetch less at a time, or name "
                    "a models folder on another disk with --models or extra_model_paths.yaml."
                )
        return ""


def _lines(wanted: Wanted) -> list[str]:
    mark = "x" if wanted.there else "!" if wanted.blocked else " "
    first = f"  [{mark}] {wanted.file.name}, {wanted.file.size_text}"
    if wanted.there:
        return [f"{first}: {wanted.there}"]
    if wanted.blocked:
        return [first, f"        {wanted.blocked}"]
    facts = (f"from {wanted.file.url}", f"to {wanted.target}", wanted.file.remark)
    licensed = f"license as far as known: {wanted.file.license}"
    return [first, *(f"        {fact}" for fact in (*facts, licensed) if fact)]


def plan(files: Sequence[WeightFile], folders: Mapping[str, Sequence[Path]]) -> Plan:
    """folders: those of ComfyUI, kind by kind; a missing file goes into the first of its kind."""
    rows = {row.name: row for row in installed(folders, {file.name for file in files})}
    unique = {file.name: file for file in files}
    return Plan(
        tuple(
            _wanted(file, rows[name], folders[file.folder][0] / PurePosixPath(name))
            for name, file in unique.items()
        )
    )
