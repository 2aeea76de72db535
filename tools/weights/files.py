"""Weight files on disk: reading them without running code."""

from __future__ import annotations

import contextlib
import json
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ...common.diagnosis import AGAIN, SAFETENSORS, weights_problem
from ...common.state_dict import CheckpointError, StateDict

NETWORK = "diffusion_pytorch_model"
"""How diffusers names the file of a network in its folder."""
NETWORK_STEMS = (NETWORK, "pytorch_model")
SHARD = re.compile(r"-\d{5}-of-(\d{5})$")
OWN_GLOBAL = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\.(storage\.)?\w+Storage|torch\.(Size|device|bool)"
    r"|torch\.(b?float|u?int|complex)\d\w*|collections\.OrderedDict"
)
"""What torch.save itself asks for to rebuild tensors."""
LEGACY_MARK = torch.serialization.MAGIC_NUMBER.to_bytes(10, "little")
"""Begins a file of torch's older format."""
LEGACY_PICKLES = 5
"""One after another in such a file; the fourth is what was saved."""
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
    zipfile.BadZipFile,
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
        for stem in NETWORK_STEMS:
            shards = sorted(p for p in folder.glob(f"{stem}*{extension}") if SHARD.search(p.stem))
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
    if problem := weights_problem(path):
        raise CheckpointError(problem)
    try:
        if path.suffix.lower() in SAFETENSORS:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            return load_file(path), metadata
        return _read_pickle(path), {}
    except pickle.UnpicklingError as error:
        raise CheckpointError(unsafe_sentence(path, error)) from error
    except DAMAGE as error:
        raise CheckpointError(f"{path.name} is damaged ({_short(error)}): {AGAIN}.") from error


def _read_pickle(path: Path) -> Any:
    """Only tensors and plain containers; anything else in the file raises UnpicklingError."""
    # Only the newer of torch's formats can be mapped into memory.
    mapped = True if zipfile.is_zipfile(path) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on how the file was written, which the user cannot change
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)


def unsafe_sentence(path: Path, error: Exception) -> str:
    """Why a pickle is refused, and what to do."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    try:
        wanted = named[1] if named else _first_wish(path)
    except DAMAGE:
        return f"{path.name} is damaged (its pickle makes no sense): {AGAIN}."
    found = (
        f"{path.name} needs more than tensors: it asks for {wanted}. Loading it would let the file "
        "run code, so it is refused."
        if wanted
        else f"{path.name} is written with a pickle protocol that torch's safe reader does not "
        "take: expected protocol 2, torch.save's own."
    )
    return (
        f"{found} Look for a safetensors version at its authors. If you trust them, load it with "
        "torch.load(..., weights_only=False) on a machine without your data, save its state_dict "
        "with torch.save, and convert that."
    )


def _first_wish(path: Path) -> str:
    """The first thing that a pickle asks for beyond tensors, taken apart without running it; torch
    names it only in pickles of protocol 2 and 3. Empty: none. One of `DAMAGE`: it does not parse."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            file = stack.enter_context(archive.open(name))
        legacy = LEGACY_MARK in file.read(32)
        file.seek(0)
        for _ in range(LEGACY_PICKLES if legacy else 1):
            for wanted in _globals(file):
                if not OWN_GLOBAL.fullmatch(wanted):
                    return wanted
    return ""


def _globals(file: IO[bytes]) -> Iterator[str]:
    """`module.name` of everything that one pickle asks for."""
    texts: list[str] = []
    memo: dict[object, object] = {}
    last: object = None  # the argument of the step before
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif opcode.name == "MEMOIZE" or opcode.name.endswith("PUT"):
            memo[len(memo) if argument is None else argument] = last
            continue
        last = memo.get(argument) if opcode.name.endswith("GET") else argument
        if isinstance(last, str):
            texts.append(last)


def _short(error: Exception) -> str:
    """The first sentence of a library's message."""
    first = (str(error).splitlines() or [""])[0].partition(". ")[0]
    return first.rstrip(".") or type(error).__name__


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
