"""What stops a run, in one sentence."""

from __future__ import annotations


class TrainingError(Exception):
    """The user can do something about it: the message says what was found and what to do."""
