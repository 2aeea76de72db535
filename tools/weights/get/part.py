"""What has arrived of a file, kept between runs until it is whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ...files import part_of
from ...locking import try_lock
from .errors import DiskError, InTheWayError

FULL = (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC)


@dataclass
class Part:
    """The bytes that are there, and of which version of which file they are. Hold it with `holding`,
    which keeps other processes from it."""

    path: Path
    _notes: IO[bytes]
    size: int = 0
    """Bytes that are there."""
    total: int | None = None
    """Bytes of the whole file, as its server says; None: it does not."""
    validator: str = ""
    """The server's name for this version of the file; empty: it gives none."""
    sha256: str = ""
    """Of the whole file, as its server says; empty: it does not."""

    @property
    def whole(self) -> bool:
        return bool(self.size) and self.size == self.total

    def begin(self, total: int | None, validator: str, sha256: str) -> None:
        """Starts again from nothing."""
        self.total, self.validator, self.sha256, self.size = total, validator, sha256, 0
        with disk(self.path):
            self.path.write_bytes(b"")
            said = {"total": total, "validator": validator, "sha256": sha256}
            self._notes.truncate(0)
            self._notes.write(json.dumps(said).encode())
            self._notes.flush()

    def take(self, file: Path, sha256: str) -> None:
        """Has all of it from a file, which goes away."""
        self.begin(file.stat().st_size, "", sha256)
        file.replace(self.path)
        self.size = self.path.stat().st_size

    def append(self, file: IO[bytes], data: bytes) -> None:
        """Writes what has arrived; `file` is the part, opened to append. Raises DiskError."""
        with disk(self.path):
            file.write(data)
            file.flush()
        self.size += len(data)

    def forget(self) -> None:
        """Removes what is there."""
        self.begin(None, "", "")

    def _recall(self) -> None:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            self._notes.seek(0)
            said = json.loads(self._notes.read())
            size = self.path.stat().st_size
            if said["total"] is None or size <= said["total"]:
                self.size, self.total = size, said["total"]
                self.validator, self.sha256 = said["validator"], said["sha256"]


@contextlib.contextmanager
def holding(target: Path) -> Iterator[Part]:
    """What has arrived of the file that will be `target`, for this process alone. At the end of the
    block, what is left of it stays if there is anything. Raises DiskError, and InTheWayError while
    another process fetches the same file."""
    path = part_of(target)
    with disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        notes = path.with_suffix(".json").open("ab+")
    with notes:
        if not try_lock(notes):
            raise InTheWayError(f"{target} is being fetched by another process: wait for it.")
        part = Part(path, notes)
        part._recall()
        try:
            yield part
        finally:
            if not (path.is_file() and path.stat().st_size):
                path.unlink(missing_ok=True)
                if os.name == "nt":  # which removes no open file
                    notes.close()
                path.with_suffix(".json").unlink(missing_ok=True)


@contextlib.contextmanager
def disk(path: Path) -> Iterator[None]:
    """Within it, what the disk refuses becomes a DiskError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskError(
                f"The disk of {path.parent} is full. What has arrived is kept: free some space and "
                "run the command again, and it goes on from there."
            ) from error
        raise DiskError(
            f"{path.parent} cannot be written ({error.strerror or error}): let this user write "
            "there, or name another folder with --models or extra_model_paths.yaml."
        ) from error
