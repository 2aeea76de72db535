"""Writing files of weights: whole or not at all, and never over another one."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

from .state_dict import StateDict


def write_weights(weights: StateDict, file: Path, metadata: Mapping[str, str]) -> None:
    """A safetensors at `file`, in a folder that need not be there yet. metadata: for its head."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in weights.items()}, file, dict(metadata))
    file.chmod(0o644)  # safetensors writes for the owner alone


def write_new(
    weights: StateDict, folder: Path, name: Callable[[int], str], metadata: Mapping[str, str]
) -> Path:
    """A file below `folder` under the first free of the names name(0), name(1), ...; its path.

    It is written beside that place and renamed once it is whole and on the disk. Raises OSError or
    safetensors' own error where it cannot be written; nothing is left of it then.
    """
    part = folder / f".{uuid.uuid4().hex}.part"
    try:
        write_weights(weights, part, metadata)
        with part.open("rb+") as written:
            os.fsync(written.fileno())
        for number in count():
            target = folder / name(number)
            with contextlib.suppress(FileExistsError):
                target.open("xb").close()  # whoever else looks for a name sees that it is taken
                os.replace(part, target)
                return target
    finally:
        part.unlink(missing_ok=True)
    raise AssertionError("there is a free number")
