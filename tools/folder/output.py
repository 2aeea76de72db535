"""The output folder: held by one run at a time, and nothing in it is replaced but its own."""

from __future__ import annotations

import contextlib
import os
import socket
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..files import part_of, replacing
from ..locking import HeldError, locked
from .errors import UsageError
from .manifest import NAME, Key, Manifest, Record, State

LOCK = f".{NAME}.lock"
PROBE = 1 << 20
"""Bytes that must find room before anything starts."""


class OutputError(OSError):
    """The output folder takes no more results."""


@dataclass(frozen=True)
class Output:
    """A folder that this process holds."""

    folder: Path
    manifest: Manifest
    folds_case: bool
    """Whether `A.png` and `a.png` are one file there."""

    def fold(self, file: str) -> str:
        """Equal for names that are one file."""
        return unicodedata.normalize("NFC", file).casefold() if self.folds_case else file

    def equal(self, key: Key) -> Record | None:
        """A record of the same run whose results are all there as it left them."""
        for record in self.manifest.done(key):
            if all(
                self.manifest.state(each["file"], each["sha256"]) is State.OURS
                for each in record["outputs"]
            ):
                return record
        return None

    def is_taken(self, file: str, path: Path, sha256: str) -> bool:
        """Whether a file is the result of another picture that is still there."""
        record = self.manifest.writers().get(file)
        if record is None or record["input_sha256"] == sha256:
            return False
        other = record["input"]
        return os.path.exists(other) and not (path.exists() and os.path.samefile(other, path))

    def problem(self, file: str, path: Path, sha256: str, again: bool) -> str:
        """Why a picture's result may not get this name; empty: it may."""
        state = self.manifest.state(file)
        if state is State.FOREIGN:
            return f"{self.folder / file} is there, and no line of {NAME} made it"
        if state is State.CHANGED and not again:
            return f"{self.folder / file} was changed since it was made (--again replaces it)"
        if self.is_taken(file, path, sha256):
            return f"{self.folder / file} is the result of another picture"
        return ""

    def commit(self, record: Record, files: Sequence[bytes], path: Path, again: bool) -> None:
        """Writes a picture's results and its line of the manifest, all or nothing.

        files: the contents of record["outputs"], in that order. OSError, also where a result may
        not get its name; OutputError where the folder takes no more.
        """
        names = [each["file"] for each in record["outputs"]]
        for name in names:
            if problem := self.problem(name, path, record["input_sha256"], again):
                raise OSError(f"{problem}: move it away, or take another --output")
        try:
            with contextlib.ExitStack() as parts:
                for name, data in zip(names, files, strict=True):
                    part = parts.enter_context(replacing(self.folder / name))
                    part.write_bytes(data)
                # First the line: killed now, the next run finds it without its results and makes
                # them again, while results without a line would be nobody's.
                self.add(record)
        except OutputError:
            raise
        except OSError as error:
            probe(self.folder)
            raise OSError(f"{names[0]} cannot be written ({error})") from error

    def add(self, record: Record) -> None:
        """Appends a line to the manifest, with the time. OutputError."""
        try:
            self.manifest.add(record | {"finished": _now()})
        except OSError as error:
            raise OutputError(_unwritable(self.manifest.path, error)) from error


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[Output]:
    """Holds the output folder for the length of the block, and makes it where it is missing.

    Raises UsageError where another run holds it, or where nothing can be written; ValueError where
    its manifest is none.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: --output names a folder.")
    made = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    holder = f"process {os.getpid()} on {socket.gethostname()} since {_now()}"
    try:
        with contextlib.ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(folder / LOCK, holder))
            except HeldError as error:
                raise UsageError(
                    f"{folder} is being filled by another run ({error}): wait for it, or take "
                    "another --output."
                ) from error
            except OSError as error:
                raise UsageError(_unwritable(folder, error)) from error
            probe(folder)
            manifest = Manifest(folder / NAME)
            for file in manifest.writers():  # what a killed run left behind
                with contextlib.suppress(OSError):
                    part_of(folder / file).unlink(missing_ok=True)
            folds_case = (folder / LOCK.upper()).exists()
            yield Output(folder, manifest, folds_case)
    except OutputError as error:
        raise UsageError(str(error)) from error
    finally:
        for each in made:  # a run that was refused leaves no empty folder
            with contextlib.suppress(OSError):
                each.rmdir()


def probe(folder: Path) -> None:
    """Raises OutputError where a small result would not find room."""
    path = folder / f".{NAME}.probe"
    try:
        with path.open("wb") as file:
            file.write(os.urandom(PROBE))  # zeros might be stored as nothing
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(_unwritable(folder, error)) from error
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> str:
    return (
        f"{path} cannot be written ({error.strerror or error}): make room or get the right to "
        "write there, or take another --output."
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
