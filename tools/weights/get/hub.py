"""The same through huggingface_hub where it is installed, as ComfyUI does: it fetches in parallel, and
knows the user's token for files behind a login."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from .addresses import HubFile
from .download import check_room, unreachable
from .errors import RefusedError, UnreachableError
from .http import WITHDRAWN, refusal
from .part import FULL, Part, disk
from .probe import probe


def download_from_hub(file: HubFile, url: str, part: Part) -> bool:
    """Brings a part to its end; False: huggingface_hub is not installed or brings nothing, for
    whatever reason, and the address is to be asked directly.

    Raises RefusedError, UnreachableError and DiskError; what has arrived is kept.
    """
    try:
        import huggingface_hub
        from huggingface_hub.utils import disable_progress_bars
    except ImportError:
        return False
    if not sys.stderr.isatty():
        disable_progress_bars()
    said = probe(url)
    folder = part.path.with_suffix(".hub")
    check_room(part.path.parent, (said.total or 0) - _arrived(folder))
    while True:
        before = _arrived(folder)
        try:
            came = huggingface_hub.hf_hub_download(
                file.repo,
                file.file,
                repo_type=file.kind,
                revision=file.revision,
                endpoint=file.endpoint,
                token=None if file.trusted else False,
                local_dir=folder,
            )
            break
        except Exception as error:  # which ones, changes with its versions
            _stop_for(error, folder, url)
            if _arrived(folder) > before:
                continue
            if before:
                raise UnreachableError(unreachable(url, error, some=True)) from error
            shutil.rmtree(folder, ignore_errors=True)
            return False
    with disk(folder):
        part.take(Path(came), said.sha256)
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _stop_for(error: Any, folder: Path, url: str) -> None:
    """Raises what no second try changes."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in WITHDRAWN:
        shutil.rmtree(folder, ignore_errors=True)
        raise RefusedError(refusal(url, status)) from error
    if getattr(error, "errno", None) in FULL:
        with disk(folder):
            raise error


def _arrived(folder: Path) -> int:
    """Bytes of the file that are there; beside them huggingface_hub keeps notes of its own."""
    return sum(path.stat().st_size for path in folder.rglob("*.incomplete"))
