"""A folder that still fills: its pictures, as soon as nobody writes them any more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL = 2.0
"""Seconds between two looks at least; a picture that did not change for one is whole."""
SHARE = 10
"""Looking takes at most this part of the time: large folders are looked at less often."""

Pictures = Mapping[Path, Path]
"""Picture -> its name below the output folder."""


@dataclass
class Watch:
    """Looks at what there is, again and again."""

    find: Callable[[], Pictures]
    _before: dict[Path, object] = field(default_factory=dict)
    """As of the last look: what tells a picture from an earlier one of its name."""
    _given: dict[Path, object] = field(default_factory=dict)

    def rounds(self) -> Iterator[dict[Path, Path]]:
        """The pictures that are new or changed, until an interrupt meets it waiting, which is how
        a watch ends."""
        while True:
            started = time.monotonic()
            if ready := self._look():
                yield ready
            spent = time.monotonic() - started if not ready else 0.0
            try:
                time.sleep(max(INTERVAL, SHARE * spent))
            except KeyboardInterrupt:
                return

    def _look(self) -> dict[Path, Path]:
        ready, now = {}, {}
        for path, name in self.find().items():
            with contextlib.suppress(OSError):  # gone again
                status = path.stat()
                mark = now[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
                if self._before.get(path) == mark != self._given.get(path):
                    ready[path] = name
                    self._given[path] = mark
        self._before = now
        return ready
