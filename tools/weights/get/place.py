"""From a part that is whole to a file in its folder: looked into first, and never over another."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from ....common.diagnosis import file_problem
from ....common.method import WeightFile
from ...files import sha256
from ..installed import looked_into
from .errors import InTheWayError, WrongFileError
from .part import Part, disk

Change = Callable[[Path], object]


def as_it_came(came: Path) -> None:
    """Changes nothing."""


def place(part: Part, file: WeightFile, target: Path, url: str, change: Change = as_it_came) -> str:
    """Puts what has arrived where it belongs; its sha256 as it came. change: what is done to the
    file before it gets there.

    Raises WrongFileError, when the part is gone, for what is not the published file: another
    sha256 than the table's or the server's, a web page, a truncated or another network.
    InTheWayError where a file has appeared at `target`.
    """
    expected = file.sha256 or part.sha256
    with disk(target):
        digest = sha256(part.path)
        # Under its own name, which decides about what a file is; hidden, so that nobody loads it.
        with tempfile.TemporaryDirectory(prefix=".get-", dir=target.parent) as folder:
            came = Path(folder, target.name)
            part.path.rename(came)
            try:
                problem = _problem(came, file, digest, expected)
                if not problem:
                    change(came)
                placed = not problem and _moved(came, target)
            except BaseException:  # an interrupt as well: what took hours is kept
                came.rename(part.path)
                raise
        part.forget()
    if problem:
        raise WrongFileError(f"{url} sent something else, which is removed: {problem}")
    if not placed:
        raise InTheWayError(f"{target} has appeared in the meantime: it stays as it is.")
    return digest


def _problem(came: Path, file: WeightFile, digest: str, expected: str) -> str:
    """Why this is not the published file; empty: it is, as far as can be known."""
    if digest == expected:
        return ""
    if problem := file_problem(came):  # says more than a digest does
        return problem
    if expected:
        size = came.stat().st_size
        return f"{came.name} has {size:,} bytes and the sha256 {digest}; expected {expected}."
    return looked_into(came, file.folder).problem


def _moved(came: Path, target: Path) -> bool:
    """Renames a file, on the disk to its last byte, but replaces nothing; False: something is there."""
    with came.open("rb+") as written:
        os.fsync(written.fileno())
    try:
        os.link(came, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if os.path.lexists(target):
            return False
        came.rename(target)
    return True
