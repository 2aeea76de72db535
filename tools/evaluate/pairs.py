"""Which result belongs to which original."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..files import files_below
from ..folder.errors import UsageError
from ..folder.pictures import EXTENSIONS

SHOWN = 5
"""Names that a sentence has."""


@dataclass(frozen=True)
class Pair:
    """One picture, in all folders."""

    name: str
    """Below its folder, without the extension, with `/`."""
    result: Path
    reference: Path | None
    input: Path | None


@dataclass(frozen=True)
class Paired:
    """What the folders have in common."""

    pairs: list[Pair]
    unpaired: list[str]
    """Sentences about what is in one folder alone."""


def pair(results: Path, reference: Path | None, given: Path | None = None) -> Paired:
    """The pictures that are called the same, whatever their extension.

    given: the folder of the restoration's inputs. Raises UsageError where a name is there twice, or
    where none is in all folders.
    """
    named = {"results": results, "reference": reference, "input": given}
    kinds = {kind: folder for kind, folder in named.items() if folder is not None}
    found = {kind: _pictures(folder) for kind, folder in kinds.items()}
    common = set.intersection(*(set(names) for names in found.values()))
    if not found["results"]:
        raise UsageError(f"{results} has no pictures.")
    if not common:
        raise UsageError(
            f"No picture of {results} is called as one of "
            f"{' and of '.join(str(folder) for folder in list(kinds.values())[1:])}: results are "
            "paired with originals by their name without the extension."
        )
    pairs = [
        Pair(
            name,
            found["results"][name],
            found.get("reference", {}).get(name),
            found.get("input", {}).get(name),
        )
        for name in sorted(common)
    ]
    unpaired = []
    for kind, names in found.items():
        if alone := sorted(set(names) - common):
            more = f" and {len(alone) - SHOWN} more" if len(alone) > SHOWN else ""
            unpaired.append(
                f"{len(alone)} of {kinds[kind]} without a partner: {', '.join(alone[:SHOWN])}{more}"
            )
    return Paired(pairs, unpaired)


def _pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder.")
    found: dict[str, Path] = {}
    for path in files_below(folder):
        if path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if other := found.get(name):
            raise UsageError(
                f"{other} and {path} are called the same but for the extension: leave one in {folder}."
            )
        found[name] = path
    return found


def read_rgb(path: Path) -> Image.Image:
    """A picture the right way up, 8 bits a channel. Raises OSError."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def pixels(image: Image.Image) -> Tensor:
    """1 3 H W in 0..1."""
    return torch.from_numpy(np.array(image)).movedim(-1, 0)[None].float() / 255
