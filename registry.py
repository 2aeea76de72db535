"""The methods, collected: every list of them, of their files, schedules, samplers, start points, prompt
forms and degradations is a view of what each states in its METHOD."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from .common.degradation import REAL_ESRGAN, REAL_ESRGAN_EXACT, Preset
from .common.method import Method, WeightFile
from .common.prompts import PLAIN, PromptStyle
from .common.sampling import Sampler, Start, pure_noise
from .common.schedule import Schedule
from .common.state_dict import GENERIC, Signature, UnknownWeightsError
from .common.state_dict import describe as _describe

log = logging.getLogger(__name__)
T = TypeVar("T")

METHODS = [
    "diffbir", "pasd", "seesr", "onestep", "styleid", "zeroshot", "tagger", "stage1", "faces",
]  # fmt: skip
"""Folders; the order in which users see what they bring."""


@functools.cache
def _method(name: str) -> Method | None:
    try:
        return importlib.import_module(f".{name}", __package__).METHOD
    except Exception:
        log.exception(
            "Diffusion Restoration: the method %s is missing because its folder failed to import. "
            "The others work. Please report this traceback.",
            name,
        )
        return None


def methods() -> list[Method]:
    """All that can be imported: a broken one is named in the log, once, and hides no other."""
    return [method for name in METHODS if (method := _method(name)) is not None]


def _together(first: Mapping[str, T], *parts: Mapping[str, T]) -> dict[str, T]:
    """One mapping of several. ValueError where two methods bring the same name."""
    found = dict(first)
    for part in parts:
        if taken := found.keys() & part.keys():
            raise ValueError(f"Two methods bring the name {min(taken)}: one of them has to change.")
        found |= part
    return found


def files() -> dict[str, WeightFile]:
    """By their names; a base checkpoint of several methods once."""
    return {file.name: file for method in methods() for file in method.files}


def pages() -> tuple[str, ...]:
    """Addresses beside those of the files, each once."""
    return tuple(dict.fromkeys(page for method in methods() for page in method.pages))


def signatures() -> tuple[Signature, ...]:
    """What weights look like, the methods' own before the generic ones."""
    own = (signature for method in methods() for signature in method.signatures)
    return (*own, *GENERIC)


def describe(keys: Iterable[str]) -> str:
    """What a state dict is, in words that go after "this is"."""
    return _describe(keys, signatures())


@contextmanager
def naming() -> Iterator[None]:
    """Within it, a loader's error about unknown weights says whose they are."""
    try:
        yield
    except UnknownWeightsError as error:
        raise error.named(signatures()) from error


def schedules() -> dict[str, Schedule]:
    return _together({}, *({s.name: s for s in method.schedules} for method in methods()))


def samplers() -> dict[str, Sampler]:
    return _together({}, *(method.samplers for method in methods()))


def starts() -> dict[str, Start]:
    return {**_together({}, *(method.starts for method in methods())), "noise": pure_noise}


def prompts() -> dict[str, PromptStyle]:
    return _together({"plain": PLAIN}, *(method.prompts for method in methods()))


def presets() -> dict[str, Preset]:
    return _together(
        {"realesrgan": REAL_ESRGAN},
        *(method.presets for method in methods()),
        {"realesrgan_exact": REAL_ESRGAN_EXACT},
    )
