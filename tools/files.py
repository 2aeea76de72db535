"""Files on disk: finding them, digests, writing all or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from .locking import try_lock

CHUNK = 1 << 22


def files_below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every file in a folder and the folders in it, sorted, also through links to folders, as
    ComfyUI goes. above: the folders that led here, so that no link leads in a circle."""
    real = os.path.realpath(folder)
    with contextlib.suppress(OSError):  # a folder that this user may not read
        for path in sorted(folder.iterdir()) if real not in above else ():
            if path.is_dir():
                yield from files_below(path, (*above, real))
            elif path.is_file():
                yield path


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end of the block, or is removed when the
    block fails: nobody ever sees half a file. What a killed run left behind is replaced.

    Raises OSError while another process writes the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    with part.open("ab") as holder:
        if not try_lock(holder):
            raise OSError(f"{path} is being written by another process: wait for it")
        try:
            holder.truncate(0)
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            with contextlib.suppress(PermissionError):  # not every file system has modes
                part.chmod(0o666 & ~_umask())  # safetensors writes for the owner only
            if os.name == "nt":  # which renames no open file
                holder.close()
            part.replace(path)
        finally:
            holder.close()
            part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where a file is written until it is whole. Its name is short: one of the full length that
    the file system allows has room for no more."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]}.part")


def _umask() -> int:
    mask = os.umask(0)  # the only way to read it
    os.umask(mask)
    return mask
