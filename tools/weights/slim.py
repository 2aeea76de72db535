"""A published file without what inference never reads, under its own name: the loaders and workflows
find it as they find the whole one."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from ...common.diagnosis import PICKLES, SAFETENSORS
from ...common.state_dict import CheckpointError
from ..files import replacing
from .convert import apart, checked, metadata_of
from .files import contents_size, read_weights, sort_metadata
from .known import identify

LEAST = 0.05
"""The share that has to be saved; below it a file stays as it is published."""


def slim(path: Path) -> int:
    """Replaces a file by what its loader reads of it, with equal values; the bytes that are saved, 0
    where it stays as it is. Which weights those are, the loaders' own tables say (`identify`).

    Raises CheckpointError for a file that is not whole.
    """
    if path.suffix.lower() not in (*SAFETENSORS, *PICKLES):
        return 0
    source, before = read_weights(path), path.stat().st_size
    try:
        found = identify(source.contents, source.name, source.metadata)
    except CheckpointError:  # none of the methods' files: whoever loads it may read all of it
        return 0
    size = contents_size(found.weights)
    if size > (1 - LEAST) * before:
        return 0
    checked(found, source.name)
    weights = apart(found.weights)
    metadata = metadata_of(found, [source])
    del source, found  # on Windows nothing that is mapped into memory can be replaced
    with replacing(path) as part:
        if path.suffix.lower() in SAFETENSORS:
            save_file(weights, part, metadata)
            sort_metadata(part)
        else:
            torch.save(weights, part)
    return before - path.stat().st_size
