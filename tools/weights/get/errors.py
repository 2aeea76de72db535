"""Why a file did not come."""

from __future__ import annotations


class FetchError(RuntimeError):
    """One file cannot be fetched from one address; the message says why and what to do."""


class RefusedError(FetchError):
    """The address gives nobody, or not this user, the file: another one has to."""


class WrongFileError(FetchError):
    """What came is not the published file; it is gone again."""


class UnreachableError(FetchError):
    """Nobody answers, or the line is cut again and again. What has arrived is kept."""


class InTheWayError(FetchError):
    """Another process, or another file, is where this one would go. It stays."""


class DiskError(FetchError):
    """The disk takes no more, whatever the address. What has arrived is kept."""
