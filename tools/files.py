"""Weight files on disk: reading them without running code, digests, writing all or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..common.state_dict import CheckpointError, StateDict

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".pth", ".pt", ".ckpt", ".bin")
NETWORK = "diffusion_pytorch_model"
"""How diffusers names the file of a network in its folder."""
SHARD = re.compile(r"-\d{5}-of-(\d{5})$")
CHUNK = 1 << 22
DAMAGE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    struct.error,
)
"""What a broken file raises, depending on its format and on torch's version."""


@dataclass(frozen=True)
class Source:
    """What was read: a file, or the shards of one."""

    paths: tuple[Path, ...]
    contents: Any
    """As it was saved. Weights are read from the disk only when they are used, where the format
    allows it."""
    metadata: Mapping[str, str]
    """Of a safetensors file, else empty."""

    @property
    def name(self) -> str:
        return self.paths[0].name


def read_weights(path: Path) -> Source:
    """A file, or a folder with the one network in it, on the CPU. Raises CheckpointError."""
    if path.is_dir():
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
    return Source(paths, {key: value for part, _ in parts for key, value in part.items()}, {})


def network_files(folder: Path) -> tuple[Path, ...]:
    """The file of the network in a diffusers folder, or all its shards; safetensors where there
    is a choice. Empty: there is none. Raises CheckpointError where shards are missing."""
    for extension in (".safetensors", ".bin"):
        for stem in (NETWORK, f"{NETWORK}.fp16", "pytorch_model"):
            if (whole := folder / f"{stem}{extension}").is_file():
                return (whole,)
        shards = sorted(p for p in folder.glob(f"{NETWORK}*{extension}") if SHARD.search(p.stem))
        if shards:
            match = SHARD.search(shards[0].stem)
            assert match
            if len(shards) != int(match[1]):
                raise CheckpointError(
                    f"{folder} holds {len(shards)} of {int(match[1])} parts of its network: "
                    "download the missing ones."
                )
            return tuple(shards)
    return ()


def _read(path: Path) -> tuple[Any, dict[str, str]]:
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.")
    if not path.stat().st_size:
        raise CheckpointError(f"{path.name} is empty: download it again.")
    if what := _no_weights_at_all(path):
        raise CheckpointError(f"{path.name} holds no weights: it is {what}")
    try:
        if path.suffix.lower() in SAFETENSORS:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            return load_file(path), metadata
        return _read_pickle(path), {}
    except pickle.UnpicklingError as error:
        raise CheckpointError(unsafe_sentence(path.name, error)) from error
    except DAMAGE as error:
        raise CheckpointError(
            f"{path.name} cannot be read: {_first_line(error)}. The download may be incomplete; "
            "compare its size with the published one and download it again."
        ) from error


def _read_pickle(path: Path) -> Any:
    """Only tensors and plain containers; anything else in the file raises UnpicklingError."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    # Only the newer of torch's formats can be mapped into memory.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped or None)


def unsafe_sentence(name: str, error: Exception) -> str:
    """Why a pickle is refused, and what to do."""
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    needs = f"it asks for {wanted[1]}" if wanted else "it is damaged or no pickle of weights"
    return (
        f"{name} needs more than tensors: {needs}. Loading it would let the file run code, so it "
        "is refused. Look for a safetensors version at its authors. If you trust them, load it "
        "with torch.load(..., weights_only=False) on a machine without your data, save its "
        "state_dict with torch.save, and convert that."
    )


def _no_weights_at_all(path: Path) -> str:
    """What a download that went wrong is, and what to do; empty: it may be weights."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer. Run git lfs pull, or download the file itself."
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page. Use the download link, not the address of the page."
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end of the block, or is removed when the
    block fails: nobody ever sees half a file. What a killed run left behind is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())  # safetensors writes for the owner only
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)  # the only way to read it
    os.umask(mask)
    return mask


def contents_size(weights: StateDict) -> int:
    """Bytes of all tensors."""
    return sum(value.numel() * value.element_size() for value in weights.values())
