"""Files on Google Drive, which has no direct addresses, through gdown where that is installed."""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import Any

from ....common.method import WeightFile
from .addresses import drive_id, in_drive_folder
from .errors import RefusedError
from .part import Part, disk


def download_from_drive(file: WeightFile, part: Part) -> None:
    """Brings a part to its end. Raises RefusedError where gdown is not installed or brings nothing,
    with how to get the file by hand."""
    try:
        import gdown
    except ImportError:
        raise RefusedError(
            f"{file.name} has no direct address. {file.how} Or pip install gdown into the Python "
            "that runs this command, and run it again."
        ) from None
    came = part.path.with_suffix(".drive")
    try:
        known = _in_folder(gdown, file) if in_drive_folder(file) else drive_id(file)
        found = gdown.download(
            id=known, output=str(came), resume=True, quiet=not sys.stderr.isatty()
        )
    except RefusedError:
        raise
    except Exception as error:  # which ones, changes with its versions
        raise RefusedError(f"gdown does not bring {file.name} ({error}). {file.how}") from error
    if not found:
        raise RefusedError(f"gdown does not bring {file.name}. {file.how}")
    with disk(part.path):
        part.take(Path(found), "")


def _in_folder(gdown: Any, file: WeightFile) -> str:
    """By what Google Drive knows the file of this name in a folder. RefusedError where there is
    none."""
    name = PurePosixPath(file.name).name
    for each in gdown.download_folder(id=drive_id(file), skip_download=True, quiet=True) or ():
        if PurePosixPath(each.path).name == name:
            return each.id
    raise RefusedError(f"The folder on Google Drive holds no {name} any more. {file.how}")
