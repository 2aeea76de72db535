"""What a run says about its steps: a line in log.csv, the same in TensorBoard where it is installed."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEP = "step"


class Log:
    """log.csv and TensorBoard of a run that begins, or goes on, at step `start`."""

    def __init__(self, file: Path, start: int) -> None:
        self._rows = _before(file, start)
        self._path = file
        self._file: Any = None
        self._columns: list[str] = []
        self._board = _board(file.parent / "tensorboard", start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """The values of step number `step`, counted from 1."""
        file = self._file or self._open([STEP, *values])
        csv.DictWriter(file, self._columns).writerow({STEP: step, **values})
        file.flush()
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def _open(self, columns: list[str]) -> Any:
        """Rows of steps that are done again go."""
        self._columns = columns
        with self._path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self._rows)
        self._file = self._path.open("a", encoding="utf-8", newline="")
        return self._file

    def close(self) -> None:
        for each in (self._file, self._board):
            if each:
                each.close()


def _before(file: Path, start: int) -> list[dict[str, str]]:
    """The rows up to step `start`; one that a kill cut off is left out."""
    with contextlib.suppress(FileNotFoundError), file.open(encoding="utf-8", newline="") as rows:
        found = [row for row in csv.DictReader(rows) if (row[STEP] or "").isdecimal()]
        return [row for row in found if int(row[STEP]) <= start]
    return []


def _board(folder: Path, start: int) -> Any:
    with contextlib.suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(folder), purge_step=start + 1)
    return None
