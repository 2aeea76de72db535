"""Which of the methods' files a file is, and what it lacks, from its keys and shapes alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ... import registry
from ...common.diagnosis import file_problem
from ...common.recognition import Found
from ...common.state_dict import (
    CheckpointError,
    StateDict,
    describe,
    not_finite,
    recognized,
    unlike,
    unwrapped,
)
from ...common.text import first_sentence
from ...faces import YUNET
from ...tagger.config import TAG_LISTS
from ..files import sha256


def other_file(path: Path) -> Found | None:
    """A file of the pack that holds no tensors, by its name: a list of tags or the face detector;
    None: it has another name, or is not there."""
    if not os.path.isfile(path):
        return None
    if expected := TAG_LISTS.get(path.name):
        same = sha256(path) == expected
        problem = (
            ""
            if same
            else f"{path.name} is not the published list (its sha256 differs): get it again."
        )
        what = "thresholds for RAM's tags" if "threshold" in path.name else "RAM's list of tags"
        found = Found("seesr", "published", what, "whole", "restoration", {}, problem=problem)
    elif path.name == YUNET.name:
        note = "known by its name; what is in it shows when OpenCV loads it"
        found = Found(
            "faces", "2023mar", "YuNet, which finds faces", "whole", "restoration", {},
            notes=(note,), problem=file_problem(path),
        )  # fmt: skip
    else:
        return None
    return found


def with_numbers(found: Found, sample: int | None = None) -> Found:
    """The same, with what is to be said of its numbers. It takes as long as reading them from the
    disk; with `sample`, only so many at the beginning of each weight."""
    return replace(found, not_finite=tuple(sorted(not_finite(found.weights, sample))))


@registry.naming()
def identify(
    contents: object, name: str = "The file", metadata: Mapping[str, str] | None = None
) -> Found:
    """What a file's contents are, from their keys and shapes. name: the file's, for versions that
    only it tells. Raises CheckpointError, naming what it is, when it is none of the pack's."""
    try:
        return _identify(contents, name, metadata or {})
    except CheckpointError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # Sizes are taken from shapes, and a shape may be anything.
        raise CheckpointError(
            f"{name} has keys of one of this pack's files, and shapes of none "
            f"({first_sentence(error)}): get the published file."
        ) from error


def _identify(contents: object, name: str, metadata: Mapping[str, str]) -> Found:
    weights = unwrapped(contents)
    for method in registry.methods():
        if method.recognize and (found := method.recognize(weights, name, metadata)):
            return found
    signatures = registry.signatures()
    match = recognized(weights, signatures)
    if match and match.expected:
        raise CheckpointError(f"{unlike(weights, name, match)} Get the published one.")
    what = describe(weights, signatures)
    raise CheckpointError(f"{name} is none of this pack's files: this is {what}.")


def dtypes(weights: StateDict) -> dict[str, int]:
    """Parameters of each precision."""
    counts: Counter[str] = Counter()
    for value in weights.values():
        counts[str(value.dtype).removeprefix("torch.")] += value.numel()
    return dict(counts)
