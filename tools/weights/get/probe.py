"""Whether addresses are alive, without fetching what they have."""

from __future__ import annotations

import urllib.error
from dataclasses import dataclass
from http.client import HTTPException

from ....common.method import WeightFile
from .addresses import host_of
from .errors import FetchError, RefusedError, UnreachableError
from .http import PASSING, ask

TOLERANCE = 0.2
"""A size in the table is about right; a file in half precision has half of it."""


@dataclass(frozen=True)
class Said:
    """What a server says about a file."""

    total: int | None
    """Bytes; None: it does not say."""
    sha256: str
    """Empty: it does not say."""


def probe(url: str) -> Said:
    """Asks for the head of a file. Raises RefusedError where the address gives no file,
    UnreachableError where nobody answers."""
    try:
        try:
            answer = ask(url, method="HEAD")
        except (RefusedError, urllib.error.HTTPError):
            # Some storage signs addresses for GET alone: its first byte tells as much.
            answer = ask(url, {"Range": "bytes=0-0"})
    except urllib.error.HTTPError as error:
        with error:
            when = "now " if error.code in PASSING else ""
            raise UnreachableError(
                f"{host_of(url)} answers {when}with status {error.code}."
            ) from error
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", error)
        raise UnreachableError(f"{host_of(url)} does not answer ({why}).") from error
    with answer.body:
        return Said(answer.total, answer.sha256)


def checked_page(url: str) -> tuple[bool, str]:
    """(whether a page is there, in words)."""
    try:
        probe(url)
    except FetchError as error:
        return False, str(error)
    return True, "there."


def checked(file: WeightFile, url: str) -> tuple[bool, str]:
    """(whether an address has the published file, as far as its server says; what it says)."""
    try:
        said = probe(url)
    except FetchError as error:
        return False, str(error)
    if file.sha256 and said.sha256 and said.sha256 != file.sha256:
        return False, f"has another file: sha256 {said.sha256}, published {file.sha256}."
    if said.total is None:
        return True, "there; its size is not said."
    words = f"{said.total / 1e9:.2f} GB" if said.total >= 1e8 else f"{said.total / 1e6:.2f} MB"
    likely = (file.size, file.size / 2)
    if file.size >= 1_000_000 and not any(abs(said.total / s - 1) < TOLERANCE for s in likely):
        return False, f"has {words}, where the table says about {file.size_text}."
    return True, f"there, {words}."
