"""Published files into one safetensors that says what it is, with its sha256 beside it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...common.diagnosis import PICKLES, SAFETENSORS
from ...common.recognition import Found
from ...common.state_dict import (
    CONTROL_PREFIX,
    UNET_PREFIX,
    CheckpointError,
    StateDict,
    not_finite_words,
    unwrapped,
)
from ...common.text import few, size_words
from ..files import files_below, replacing
from ..files import sha256 as digest_of
from .files import (
    Source,
    contents_size,
    network_files,
    read_weights,
    sort_metadata,
)
from .known import identify, with_numbers

FORMAT = "1"
"""The version of our metadata; a change makes earlier conversions look unfinished."""
PAIR = ("unet", "controlnet")
"""Folders of a published PASD or SeeSR release."""
OTHERWISE = "choose another output, or --force to replace it"
HEADROOM = 1 << 24
"""Bytes of disk left over for the file's own header."""


@dataclass(frozen=True)
class Converted:
    """What `convert` did."""

    path: Path
    found: Found
    sha256: str
    written: bool
    """False: the file was there already, from the same sources."""


def sources_of(paths: Sequence[Path]) -> list[Path]:
    """What to read for a conversion: the files themselves, or the two networks of a release's
    folder. Raises CheckpointError."""
    if len(paths) != 1 or not os.path.isdir(paths[0]):
        return list(paths)
    folder = paths[0]
    if network_files(folder):
        return [folder]
    parts = (path.parent for path in files_below(folder))
    candidates = [folder, *(part.parent for part in parts if part.name == PAIR[0])]
    releases = [f for f in candidates if all(network_files(f / part) for part in PAIR)]
    releases = list({f.resolve(): f for f in releases}.values())  # links lead to some twice
    if len(releases) == 1:
        return [releases[0] / part for part in PAIR]
    if releases:
        names = ", ".join(str(release) for release in releases)
        raise CheckpointError(f"{folder} holds several releases: name one of {names}.")
    raise CheckpointError(
        f"{folder} holds no release: expected the folders unet and controlnet, each with its "
        "diffusion_pytorch_model.safetensors or .bin."
    )


def gather(sources: Sequence[Source]) -> Found:
    """The one thing that one or two sources make. Raises CheckpointError unless it is whole."""
    if len(sources) == 2:
        return checked(_pair(sources), _names(sources))
    if len(sources) != 1:
        raise CheckpointError("A conversion takes one file, or a UNet and its control network.")
    alone = identify(sources[0].contents, sources[0].name, sources[0].metadata)
    if alone.part != "whole":
        other = "control network" if alone.part == "unet" else "UNet"
        raise CheckpointError(
            f"{sources[0].name} is {alone.what}, one half of a release: give its {other} too, or "
            "the folder that holds both."
        )
    return checked(alone, sources[0].name)


def _names(sources: Sequence[Source]) -> str:
    return " and ".join(str(Path(*source.paths[0].parts[-2:])) for source in sources)


def _whole(source: Source) -> str:
    """What a file is that needs no other; empty: half of a release, or nothing by itself."""
    with contextlib.suppress(CheckpointError):
        found = identify(source.contents, source.name, source.metadata)
        if found.part == "whole":
            return found.what
    return ""


def _pair(sources: Sequence[Source]) -> Found:
    """Both networks of a release, in either order."""
    for source in sources:
        if what := _whole(source):
            raise CheckpointError(
                f"{_names(sources)} make no pair, for {source.name} is {what}: convert them one by "
                "one. Two files together are a UNet and its control network."
            )
    weights = [unwrapped(source.contents) for source in sources]
    order = sorted(weights, key=lambda each: any(key.startswith("controlnet_") for key in each))
    joined: StateDict = {}
    for prefix, each in zip((UNET_PREFIX, CONTROL_PREFIX), order, strict=True):
        joined |= {f"{prefix}{key}": value for key, value in each.items()}
    return identify(joined, _names(sources))


def checked(found: Found, name: str) -> Found:
    """The same. Raises CheckpointError unless it is whole and its numbers are finite."""
    found = with_numbers(found)
    if found.complete:
        return found
    problem = found.problem or difference_sentence(found)
    raise CheckpointError(f"{name}, {found.what}, is not whole: {problem}")


def difference_sentence(found: Found) -> str:
    """How many weights are wrong, and the first of them; empty: none."""
    parts = [
        f"{len(keys)} {word} ({few(keys)})"
        for word, keys in (
            ("missing", found.difference.missing),
            ("unexpected", found.difference.unexpected),
            ("of another shape", found.difference.reshaped),
        )
        if keys
    ]
    if found.not_finite:
        parts.append(not_finite_words(found.not_finite, len(found.weights)))
    return "; ".join(parts)


def default_name(found: Found, sources: Sequence[Source]) -> str:
    """What a converted file is called when nobody says so."""
    if len(sources) == 1:
        stem = sources[0].paths[0].stem
        same = sources[0].paths[0].suffix.lower() in SAFETENSORS
        return f"{stem}{'_converted' if same else ''}.safetensors"
    return f"{found.version}.safetensors"


def target_of(output: Path | None, found: Found, sources: Sequence[Source]) -> Path:
    """The file to write: `output` where it ends in .safetensors, else the usual name in that folder
    (there or not yet), or beside the source."""
    if output is not None and output.suffix.lower() in SAFETENSORS and not output.is_dir():
        return output
    if output is not None and output.suffix.lower() in PICKLES:
        raise CheckpointError(f"{output} should end in .safetensors: that is what is written.")
    beside = sources[0].paths[0].parent
    if len(sources) == 2 and beside.name in PAIR:
        beside = beside.parent
    return (output or beside) / default_name(found, sources)


def metadata_of(found: Found, sources: Sequence[Source]) -> dict[str, str]:
    """What a converted file says of itself."""
    digests = {
        str(Path(*path.parts[-2:]) if len(sources) > 1 else path.name): digest_of(path)
        for source in sources
        for path in source.paths
    }
    return {
        "format": "pt",
        "restoration.format": FORMAT,
        "restoration.method": found.method,
        "restoration.version": found.version,
        "restoration.source": json.dumps(digests, sort_keys=True),
    }


def sidecar(path: Path) -> Path:
    """The file beside it with its sha256, in the form that sha256sum -c reads."""
    return path.with_name(f"{path.name}.sha256")


def convert(
    paths: Sequence[Path],
    output: Path | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Converted:
    """Writes one safetensors from published files, and its sha256 beside it.

    All or nothing: a run that is cut off leaves no half file, and the next one finishes it. A
    file made from the same sources is recognized and left alone; any other is replaced only with
    `force`, and a source never. say: hears what takes a while. Raises CheckpointError.
    """
    say("Reading ...")
    sources = [read_weights(path) for path in sources_of(paths)]
    found = gather(sources)
    target = target_of(output, found, sources)
    for path in (target, sidecar(target)):
        if any(_same_file(path, each) for source in sources for each in source.paths):
            raise CheckpointError(f"{path} is the source: choose another output.")
    metadata = metadata_of(found, sources)
    if not force and os.path.lexists(target):
        return Converted(target, found, _finish(target, metadata), written=False)
    if not force and os.path.lexists(sidecar(target)):
        raise CheckpointError(
            f"{sidecar(target)} is there without {target.name}, so it belongs to another file: "
            f"{OTHERWISE}."
        )
    _check_space(target, found.weights)
    say(f"Writing {target} ({size_words(contents_size(found.weights))}) ...")
    with replacing(target) as part:
        save_file(apart(found.weights), part, metadata)
        sort_metadata(part)
        digest = digest_of(part)
        # Before the new file takes its place: the old digest would call it damaged.
        sidecar(target).unlink(missing_ok=True)
    _write_sidecar(target, digest)
    return Converted(target, found, digest, written=True)


def _finish(target: Path, metadata: dict[str, str]) -> str:
    """The digest of a conversion that is there already, written beside it where that is missing.
    Raises CheckpointError for any other file."""
    try:
        with safe_open(target, "pt") as file:
            there = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{target} exists and cannot be read ({error}): {OTHERWISE}."
        ) from error
    if there != metadata:
        what = there.get("restoration.version", "another file")
        raise CheckpointError(
            f"{target} exists and was not made from these sources (it is {what}): {OTHERWISE}."
        )
    digest = digest_of(target)
    if sidecar(target).exists():
        said = sidecar(target).read_bytes().removeprefix(b"\\").split()[:1]
        if said != [digest.encode()]:
            raise CheckpointError(
                f"{target} is not what its sha256 says, so it was damaged or changed: {OTHERWISE}."
            )
    else:
        _write_sidecar(target, digest)
    return digest


def _write_sidecar(target: Path, digest: str) -> None:
    with replacing(sidecar(target)) as part:
        part.write_bytes(_digest_line(target, digest))


def _digest_line(target: Path, digest: str) -> bytes:
    """As sha256sum writes it: a name with a line break is escaped, and marked so in front."""
    name = target.name.replace("\\", r"\\").replace("\n", r"\n")
    mark = "" if name == target.name else "\\"
    return os.fsencode(f"{mark}{digest}  {name}\n")


def _same_file(path: Path, other: Path) -> bool:
    """Also through links of either kind."""
    with contextlib.suppress(OSError):  # one of them is not there
        return path.samefile(other)
    return False


def _check_space(target: Path, weights: StateDict) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise CheckpointError(
            f"{target.parent} is a file, and {target.name} cannot lie in it: choose another --output."
        ) from None
    needed, free = contents_size(weights) + HEADROOM, shutil.disk_usage(target.parent).free
    if needed > free:
        raise CheckpointError(
            f"{target.parent} has {free / 2**30:.1f} GiB free and the file takes "
            f"{needed / 2**30:.1f}: free some space or choose another --output."
        )


def apart(weights: StateDict) -> StateDict:
    """Each tensor with memory of its own, which the format demands."""
    seen: set[int] = set()
    apart = {}
    for key, value in weights.items():
        start = value.untyped_storage().data_ptr()
        size = value.numel() * value.element_size()
        shared = start in seen or size != value.untyped_storage().nbytes()
        seen.add(start)
        apart[key] = value.clone().contiguous() if shared else value.contiguous()
    return apart
