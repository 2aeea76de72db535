"""The weight files that are there: which they are, whole, the published ones, every number finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...common.state_dict import CheckpointError
from ...registry import files as published_files
from ..files import sha256
from ..weights.convert import difference_sentence
from ..weights.files import read_weights
from ..weights.installed import LOOKED_INTO, Row, installed
from ..weights.known import identify, other_file, with_numbers


@dataclass(frozen=True)
class Weights:
    """One file."""

    file: str
    """Below the folder of its kind."""
    kind: str
    what: str
    sha256: str
    published: str
    """The sha256 of the table: "same", "differs", or "unknown" where nobody has published one."""
    problem: str = ""

    @property
    def passed(self) -> bool:
        return not self.problem

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def check_weights(folders: Mapping[str, Sequence[Path]]) -> list[Weights]:
    """Every file of the pack's in ComfyUI's folders, read whole."""
    return [_checked(row, Path(path), folders) for row in installed(folders) for path in row.paths]


def _checked(row: Row, path: Path, folders: Mapping[str, Sequence[Path]]) -> Weights:
    what, problem = row.what, row.problem
    digest, compared = "", "unknown"
    try:
        digest = sha256(path)
        file = published_files().get(row.name)
        if file and file.sha256 and path.suffix == Path(file.name).suffix:
            compared = "same" if digest == file.sha256 else "differs"
        if row.kind in LOOKED_INTO and not problem:
            what, problem = _looked_into(path)
    except (CheckpointError, OSError) as error:
        problem = str(error)
    if compared == "differs" and not problem:
        problem = f"{path.name} is not the published file (its sha256 differs): get it again."
    return Weights(_below(path, folders[row.kind]), row.kind, what, digest, compared, problem)


def _looked_into(path: Path) -> tuple[str, str]:
    """(what it is, what is wrong), of every number in it. Raises CheckpointError, OSError."""
    if found := other_file(path):
        return found.what, found.problem
    source = read_weights(path)
    found = with_numbers(identify(source.contents, source.name, source.metadata))
    problem = found.problem or difference_sentence(found)
    return f"{found.what}, version {found.version}", "" if found.complete else problem


def _below(path: Path, folders: Sequence[Path]) -> str:
    """A path as the report names it: without what is above the models."""
    for folder in folders:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.name
