"""What a folder run has done, one JSON object a line, written before the next picture starts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .workflow import canonical

Record = dict[str, Any]
NAME = "manifest.jsonl"
Key = tuple[str, str, str]
"""Input, workflow and settings: what makes two runs the same."""


class Manifest:
    """The file, and what it says is done."""

    def __init__(self, path: Path) -> None:
        """Reads what is there. A last line that a crash cut off is taken away; any other line
        that is no record raises ValueError."""
        self.path = path
        self._done: dict[Key, list[Record]] = {}
        self._owner: dict[str, Key] = {}
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")
        if lines[-1]:  # every whole line ends in a newline
            with path.open("rb+") as file:
                file.truncate(path.stat().st_size - len(lines[-1]))
        for number, line in enumerate(lines[:-1], 1):
            try:
                self._remember(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Line {number} of {path} is no record ({error!r}): correct it or move the "
                    "file away; without it everything is done again."
                ) from error

    def _remember(self, record: Record) -> None:
        key = (
            record["input_sha256"],
            record["workflow_sha256"],
            canonical(record["settings"]),
        )
        if record["status"] == "done":
            self._done.setdefault(key, []).append(record)
            self._owner.update({each["file"]: key for each in record["outputs"]})

    def done(self, key: Key) -> Record | None:
        """The last record of a finished run whose files are all still its own, else None."""
        for record in reversed(self._done.get(key, [])):
            if all(self.holds(each["file"], key) for each in record["outputs"]):
                return record
        return None

    def holds(self, file: str, key: Key) -> bool:
        """Whether a file is there and no other run has written it since this one."""
        return self._owner.get(file) == key and (self.path.parent / file).is_file()

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends a record; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(json.dumps(dict(record), ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._remember(dict(record))
