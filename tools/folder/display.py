"""What a run shows: a line for every picture, and on a terminal a bar below them."""

# ruff: noqa: T201
from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

from ..comfyui.client import Progress
from .workflow import Job, title


def printable(text: object) -> str:
    """Text as it may be shown: names of files may hold what clears a terminal, ends a line or is
    in no script at all."""
    return "".join(
        c if c.isprintable() or (c.isspace() and c > "\x7f") else _escaped(c) for c in f"{text}"
    )


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that Python kept
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


@dataclass
class Tally:
    """How the pictures ended."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    kept: int = 0

    def count(self, kind: str) -> None:
        """One more of a kind, by its name."""
        setattr(self, kind, getattr(self, kind) + 1)

    def __str__(self) -> str:
        kept = f", {self.kept} kept as changed since" if self.kept else ""
        return f"{self.done} done, {self.skipped} skipped, {self.failed} failed{kept}"


class Display:
    """Counts the pictures and tells of each."""

    def __init__(self, job: Job) -> None:
        self.tally = Tally()
        self._job, self._bar, self._total, self._count = job, None, 0, 0
        if sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(total=0, unit="image", dynamic_ncols=True)

    def expect(self, count: int) -> None:
        """So many more pictures will end."""
        self._total += count
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.refresh()

    def step(self, step: Progress) -> None:
        """What a node of the running workflow reports."""
        if self._bar is not None:
            count = f" {step.value:g}/{step.maximum:g}" if step.maximum else ""
            self._bar.set_postfix_str(printable(f"{title(self._job.prompt, step.node)}{count}"))

    def finish(self, path: Path, kind: str, outcome: str) -> None:
        """One picture is over. kind: of the tally."""
        self.tally.count(kind)
        self._count += 1
        self.tell(f"[{self._count}/{self._total}] {printable(f'{path}: {outcome}')}")
        if self._bar is not None:
            self._bar.update()

    def tell(self, line: str) -> None:
        """A line of its own."""
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line)  # above itself

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
