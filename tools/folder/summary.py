"""How a run goes: pictures a minute, each worker's share, and failures by what they are laid to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from .display import printable
from .execute import Cause

EVERY = 60.0
"""Seconds between two summaries of a run that goes on."""


@dataclass
class Summary:
    """Counts what was worked on; what was done before is not part of it."""

    started: float = field(default_factory=time.monotonic)
    done: Counter[str] = field(default_factory=Counter)
    """Worker -> pictures."""
    failed: Counter[Cause] = field(default_factory=Counter)
    _told: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Whether it is time to tell again; asking starts the next interval."""
        if (now := time.monotonic()) - self._told < EVERY:
            return False
        self._told = now
        return True

    @property
    def minutes(self) -> float:
        """Since the run began."""
        return max(time.monotonic() - self.started, 1e-9) / 60

    @property
    def speed(self) -> str:
        """Pictures a minute."""
        return f"{self.done.total() / self.minutes:.1f} pictures a minute"

    def lines(self) -> Iterator[str]:
        """Each worker's share, where there are several, and the failures, where there are any."""
        if len(self.done) > 1:
            shares = (
                f"{printable(name)} {count} ({count / self.minutes:.1f} a minute)"
                for name, count in sorted(self.done.items())
            )
            yield f"Workers: {', '.join(shares)}"
        if self.failed:
            causes = (f"{count} {cause.value}" for cause, count in self.failed.most_common())
            yield f"Failures: {', '.join(causes)}"
