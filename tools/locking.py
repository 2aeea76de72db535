"""One process at a time: a lock that the operating system takes back when its holder ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
FAR = 1 << 30
"""Windows locks bytes, and nobody else could read them: one beyond all contents."""


class HeldError(OSError):
    """Another process has the lock; the message is what that one wrote into the file."""


def try_lock(file: IO[bytes]) -> bool:
    """Locks an open file until it is closed or this process ends, however it ends. False: another
    process has it. Where the file system knows no locks there is nothing to ask: True."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in BUSY
    return True


@contextlib.contextmanager
def locked(path: Path, holder: str) -> Iterator[None]:
    """Holds the lock file `path` for the length of the block, and removes it afterwards. What a
    killed holder left behind is no obstacle. holder: who this is, for the others.

    Raises HeldError, and other OSErrors where the file cannot be written.
    """
    file = _take(path)
    try:
        file.truncate(0)
        file.write(holder.encode("utf-8", "replace"))
        file.flush()
        yield
    finally:
        if os.name != "nt":  # which removes no open file; elsewhere a closed one may be another's
            path.unlink(missing_ok=True)
        file.close()
        if os.name == "nt":
            with contextlib.suppress(OSError):
                path.unlink()


def _take(path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab+")
        if not try_lock(file):
            with file:
                file.seek(0)
                raise HeldError(file.read(1000).decode("utf-8", "replace") or "another process")
        with contextlib.suppress(FileNotFoundError):
            # Else its holder has removed it between our opening and our locking.
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
