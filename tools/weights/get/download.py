"""One address into one part: it resumes, waits out what passes, and believes no server."""

from __future__ import annotations

import shutil
import time
import urllib.error
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from .addresses import host_of
from .errors import DiskError, UnreachableError
from .http import ask, span
from .part import Part, disk

CHUNK = 1 << 20
TRIES = 5
"""In a row that bring nothing new."""
LONGEST_WAIT = 60.0
RESERVE = 1 << 28
"""Bytes of the disk that are left to others."""

Progress = Callable[[int, int | None], None]
"""(bytes that are there, bytes of the whole file where that is known)."""


def download(url: str, part: Part, progress: Progress) -> None:
    """Brings a part to its end, from where it is if the server has the same version of the file.

    Raises RefusedError, UnreachableError and DiskError; what has arrived is kept.
    """
    tries = 0
    while not part.whole:
        before, waits = part.size, 0.0
        try:
            if _receive(url, part, progress):
                return
            why = f"the connection ended after {part.size:,} of {part.total or 0:,} bytes"
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 416 and _is_whole(part, error.headers.get("Content-Range")):
                    return
                if error.code == 416:
                    part.forget()
                why = f"status {error.code}"
                after = error.headers.get("Retry-After") or ""
                waits = float(after) if after.isdecimal() else 0.0
        except (OSError, HTTPException) as error:
            why = str(getattr(error, "reason", error)) or type(error).__name__
        tries = 0 if part.size > before else tries + 1
        if tries >= TRIES:
            raise UnreachableError(unreachable(url, why, bool(part.size)))
        time.sleep(min(max(waits, 2.0**tries - 1), LONGEST_WAIT))


def unreachable(url: str, why: object, some: bool) -> str:
    """A sentence about a host that does not bring a file. some: of it has arrived."""
    on = ", and it goes on from there" if some else ""
    return (
        f"{host_of(url)} does not bring the file ({why}): check the connection and run the command "
        f"again{on}; or name another host with --mirror."
    )


def _receive(url: str, part: Part, progress: Progress) -> bool:
    """One connection; whether the part is whole at its end."""
    answer = ask(url, _resuming(part))
    with answer.body:
        if answer.status != 206 or answer.start != part.size or answer.total != part.total:
            if answer.status == 206:  # not the range that was asked for: another time without one
                part.forget()
                return False
            part.begin(answer.total, answer.validator, answer.sha256)
        check_room(part.path.parent, (answer.total or 0) - part.size)
        progress(part.size, part.total)
        with disk(part.path):
            file = part.path.open("ab")
        with file:
            while data := answer.body.read1(CHUNK):
                part.append(file, data)
                progress(part.size, part.total)
    return part.total is None or part.size == part.total


def _resuming(part: Part) -> dict[str, str]:
    """What to ask for: the rest, of the version that is there. Without a name of the version there
    is no telling, so all of it."""
    if not part.size or part.total is None or not part.validator or part.validator.startswith("W/"):
        return {}
    return {"Range": f"bytes={part.size}-", "If-Range": part.validator}


def _is_whole(part: Part, said: str | None) -> bool:
    """Whether all is there, as a server says that was asked for more."""
    _, total = span(said)
    return bool(part.size) and part.size == total


def check_room(folder: Path, needed: int) -> None:
    """Raises DiskError unless the disk of a folder has room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if needed + RESERVE > free:
        raise DiskError(
            f"{folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are still to come: "
            "free some space, or name a models folder on another disk with --models or "
            "extra_model_paths.yaml."
        )
