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


class Manifest:
    """The file, and what it says is done."""

    def __init__(self, path: Path) -> None:
        """Reads what is there. A last line that a crash cut off is taken away; any other line
        that is no record raises ValueError."""
        self.path = path
        self._done: dict[tuple[str, str, str], Record] = {}
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
            self._done[key] = record

    def done(self, key: tuple[str, str, str]) -> Record | None:
        """The record of a finished run whose files are all still there, else None."""
        record = self._done.get(key)
        folder = self.path.parent
        whole = record and all((folder / each["file"]).is_file() for each in record["outputs"])
        return record if whole else None

    def add(self, record: Mapping[str, Any]) -> None:
        """Appends a record; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(json.dumps(dict(record), ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._remember(dict(record))
