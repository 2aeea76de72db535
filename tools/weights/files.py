"""Weight files on disk: reading them without running code."""

from __future__ import annotations

import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ...common.diagnosis import SAFETENSORS, sentences, weights_problem
from ...common.state_dict import CheckpointError, StateDict, unwrapped
from ...common.text import few

NETWORK = "diffusion_pytorch_model"
"""How diffusers names the file of a network in its folder."""
NETWORK_STEMS = (NETWORK, "pytorch_model")
SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


@dataclass(frozen=True)
class Source:
    """What was read: a file, or the shards of one."""

    paths: tuple[Path, ...]
    contents: Any
    """As it was saved. Weights are read from the disk only when they are used, where the format
    allows it."""
    metadata: Mapping[str, str]
    """What a safetensors file says about itself, else empty."""

    @property
    def name(self) -> str:
        return self.paths[0].name


def read_weights(path: Path) -> Source:
    """A file, or a folder with the one network in it, on the CPU. Raises CheckpointError."""
    if os.path.isdir(path):
        paths = network_files(path)
        if not paths:
            raise CheckpointError(
                f"{path} holds no {NETWORK}.safetensors or .bin: name the folder of one network, "
                "or a file."
            )
    else:
        paths = (path,)
    parts = [_read(each) for each in paths]
    if len(parts) == 1:
        return Source(paths, *parts[0])
    joined: StateDict = {}
    for path, (contents, _) in zip(paths, parts, strict=True):
        part = unwrapped(contents)
        if twice := joined.keys() & part.keys():
            raise CheckpointError(
                f"{path.name} holds {len(twice)} weights of another part of its network again "
                f"({few(twice)}): download the parts of one release."
            )
        joined |= part
    return Source(paths, joined, {})


def network_files(folder: Path) -> tuple[Path, ...]:
    """The file of the network in a diffusers folder, or all its shards; safetensors where there
    is a choice. Empty: there is none. Raises CheckpointError where shards are missing."""
    for extension in (".safetensors", ".bin"):
        for stem in (NETWORK, f"{NETWORK}.fp16", "pytorch_model"):
            if (whole := folder / f"{stem}{extension}").is_file():
                return (whole,)
        for stem in NETWORK_STEMS:
            shards = sorted(p for p in folder.glob(f"{stem}*{extension}") if SHARD.search(p.stem))
            if shards:
                _check_shards(folder, shards)
                return tuple(shards)
    return ()


def _check_shards(folder: Path, shards: Sequence[Path]) -> None:
    matches = [match for shard in shards if (match := SHARD.search(shard.stem))]
    numbers, counts = [int(match[1]) for match in matches], {int(match[2]) for match in matches}
    if len(counts) != 1 or max(numbers) > max(counts):
        raise CheckpointError(f"{folder} holds parts of several networks: keep those of one.")
    if len(numbers) != max(counts):
        raise CheckpointError(
            f"{folder} holds {len(numbers)} of {max(counts)} parts of its network: download the "
            "missing ones."
        )


def _read(path: Path) -> tuple[Any, dict[str, str]]:
    if problem := weights_problem(path):
        raise CheckpointError(problem)
    with sentences(path):
        if path.suffix.lower() in SAFETENSORS:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            return load_file(path), metadata
        return _read_pickle(path), {}


def _read_pickle(path: Path) -> Any:
    """Only tensors and plain containers; anything else in the file raises UnpicklingError."""
    # Only the newer of torch's formats can be mapped into memory.
    mapped = True if zipfile.is_zipfile(path) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on how the file was written, which the user cannot change
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def sort_metadata(path: Path) -> None:
    """Puts a safetensors file's metadata in order, which its writer leaves to chance: equal
    contents then have equal sha256."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) <= length:  # else written in another way: still right
            file.seek(8)
            file.write(ordered.ljust(length))


def contents_size(weights: StateDict) -> int:
    """Bytes of all tensors."""
    return sum(value.numel() * value.element_size() for value in weights.values())
