"""Files on Google Drive, which has no direct addresses, through gdown where that is installed."""

from __future__ import annotations

import sys
from pathlib import Path

from ....common.method import WeightFile
from .addresses import drive_id
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
        found = gdown.download(
            id=drive_id(file), output=str(came), resume=True, quiet=not sys.stderr.isatty()
        )
    except Exception as error:  # which ones, changes with its versions
        raise RefusedError(f"gdown does not bring {file.name} ({error}). {file.how}") from error
    if not found:
        raise RefusedError(f"gdown does not bring {file.name}. {file.how}")
    with disk(part.path):
        part.take(Path(found), "")
