"""What a run cannot go on with."""

from __future__ import annotations


class UsageError(ValueError):
    """The command cannot run as it was given; the message says what to change."""
