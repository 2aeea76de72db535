"""What a folder run has done, one JSON object a line, written before the next picture starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from PIL import Image

from ..files import sha256
from .workflow import canonical

Record = dict[str, Any]
NAME = "manifest.jsonl"
BEGIN = b'{"input": '
"""How every line begins."""
Key = tuple[str, str, str]
"""Input, workflow and settings: what makes two runs the same."""


class State(Enum):
    """What became of a file in the output folder."""

    MISSING = "missing"
    OURS = "as a line of the manifest has it"
    OTHER = "as another line of the manifest has it"
    CHANGED = "changed by its owner since a line of the manifest"
    BROKEN = "of the manifest, but no picture any more"
    FOREIGN = "of no line of the manifest"


class Manifest:
    """The file, and what it says is done.

    A line is written before its results get their names, so that no result is ever there without
    one; whether a line holds is seen by its results alone.
    """

    def __init__(self, path: Path) -> None:
        """Reads what is there. A last line that a crash cut off counts for nothing and goes when
        the next one is added; any other line that is no record raises ValueError."""
        self.path = path
        self._done: dict[Key, list[Record]] = {}
        self._digests: dict[str, set[str]] = {}
        self._writer: dict[str, Record] = {}
        self._size = 0
        self._torn = b""
        self._adopted = ""
        self._hashed: dict[str, tuple[object, str]] = {}
        if not path.exists():
            return
        data = path.read_bytes()
        lines = data.split(b"\n")
        self._torn = lines[-1]  # every whole line ends in a newline
        self._size = len(data) - len(self._torn)
        if self._torn[: len(BEGIN)] != BEGIN[: len(self._torn)]:
            lines.append(b"")  # cut off or not, it was no record
        for number, line in enumerate(lines[:-1], 1):
            try:
                self._remember(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise ValueError(
                    f"Line {number} of {path} is no record ({repr(error)[:200]}): correct it, or take "
                    "another --output."
                ) from error

    def _remember(self, record: Record) -> None:
        for name in ("input", "input_sha256", "workflow_sha256"):
            if not isinstance(record[name], str):
                raise TypeError(f"{name} is no text")
        if record["status"] == "done":
            for each in record["outputs"]:
                if not isinstance(each["file"], str) or not isinstance(each["sha256"], str):
                    raise TypeError("a file of it is no text")
                if not _is_below(each["file"]):
                    raise ValueError(f"{each['file']!r} is not below this folder")
        key = (
            record["input_sha256"],
            record["workflow_sha256"],
            canonical(record["settings"]),
        )
        if record["status"] == "done":
            for each in record["outputs"]:
                self._digests.setdefault(each["file"], set()).add(each["sha256"])
                self._writer[each["file"]] = record
            self._done.setdefault(key, []).append(record)

    def done(self, key: Key) -> Iterator[Record]:
        """Every record of a finished run, the last one first."""
        yield from reversed(self._done.get(key, []))

    def writers(self) -> Mapping[str, Record]:
        """File -> the last record that names it among its results."""
        return self._writer

    def adopt(self, file: str, record: Mapping[str, Any]) -> bool:
        """Whether a file that no line names is the result of which the cut-off line tells, to be
        done again. record: as the line would begin."""
        torn, begin = self._torn, _line(record).rstrip(b"}")
        if torn and not self._adopted and (begin.startswith(torn) or torn.startswith(begin)):
            self._adopted = file
        return self._adopted == file

    def state(self, file: str, digest: str | None = None) -> State:
        """The state of a file, by its name in the output folder. digest: the only sha256 that
        counts as ours; None: that of any line. OSError where it cannot be read."""
        path = self.path.parent / file
        ours = self._digests.get(file)
        if not os.path.lexists(path):
            return State.MISSING
        if ours is None and file == self._adopted:
            return State.BROKEN
        if ours is None or not path.is_file():
            return State.FOREIGN
        found = self._digest(file, path)
        if found in ours:
            return State.OURS if digest in (None, found) else State.OTHER
        return State.CHANGED if _decodes(path) else State.BROKEN

    def _digest(self, file: str, path: Path) -> str:
        """The sha256 of a result, read again only where the file is not the one that was read."""
        status = path.stat()
        mark = (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
        known, digest = self._hashed.get(file, (None, ""))
        if known != mark:
            self._hashed[file] = mark, (digest := sha256(path))
        return digest

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends a record; it is on the disk when this returns."""
        with self.path.open("ab") as file:
            if file.tell() > self._size:  # a line that was cut off, by a crash or a full disk
                file.truncate(self._size)
            self._torn = b""
            file.write(_line(record) + b"\n")
            file.flush()
            os.fsync(file.fileno())
            self._size = file.tell()
        self._remember(dict(record))


def _line(record: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(record), ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a name in another encoding; escaped it reads back the same
        return json.dumps(dict(record)).encode()


def _decodes(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except (Image.DecompressionBombError, MemoryError):
        return True  # too large to look at, so nobody may call it broken
    except Exception:  # decoders raise what they like
        return False
    return True


def _is_below(file: str) -> bool:
    """Whether a name stays in the folder it is looked up in: what a line names may be replaced and
    removed, and a manifest can come from anywhere."""
    path = Path(file)
    return bool(path.parts) and not path.anchor and ".." not in path.parts
