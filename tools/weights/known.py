"""Which of the methods' files a file is, and what it lacks, from its keys and shapes alone."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ... import registry
from ...common.diagnosis import file_problem
from ...common.hint_encoder import hint_encoder_config
from ...common.state_dict import (
    CheckpointError,
    Layout,
    StateDict,
    not_finite,
    unwrapped,
    with_prefix,
)
from ...common.text import first_sentence
from ...diffbir import keys as diffbir
from ...diffbir.config import SD21
from ...pasd import keys as pasd
from ...pasd.config import PASDConfig, Variant
from ...seesr import keys as seesr
from ...seesr.config import SD2
from ...tagger import keys as tagger
from ...tagger.config import RAM, TAG_LISTS
from ...tagger.ram import Tagger
from ..files import sha256
from . import layouts

UNET, CONTROL = pasd.UNET_PREFIX, pasd.CONTROL_PREFIX
"""Prefixes of a converted file; SeeSR's are the same."""
STAGE_1 = ("SwinIR", "BSRNet", "SCUNet")
"""What `describe` calls them."""
DIFFBIR_VERSIONS = {
    "v2.pth": "v2",
    "v1_general.pth": "v1 general",
    "v1_face.pth": "v1 face",
    "DiffBIR_v2.1.pt": "v2.1",
    "general_full_v1.ckpt": "v1 general",
    "face_full_v1.ckpt": "v1 face",
}
"""Published names: the files have the same keys and shapes, so only the name tells."""
YUNET = "face_detection_yunet_2023mar.onnx"
ENCODER_MARKS = ("to_rgbs", "preprocesser")
"""What PASD's image encoder has and that of an ordinary ControlNet has not."""
Part = Literal["unet", "control network", "whole"]


@dataclass(frozen=True)
class Difference:
    """How weights differ from a layout; names sorted."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)


def difference(weights: Mapping[str, Any], layout: Layout) -> Difference:
    """What separates weights from their layout."""
    return Difference(
        tuple(sorted(layout.keys() - weights.keys())),
        tuple(sorted(weights.keys() - layout.keys())),
        tuple(sorted(k for k in layout if k in weights and tuple(weights[k].shape) != layout[k])),
    )


@dataclass(frozen=True)
class Found:
    """A file of one of the methods."""

    method: str
    version: str
    what: str
    """In words that go after "this is"."""
    part: Part
    """`unet` and `control network` make a pair."""
    folder: str
    """Of ComfyUI's models folder, where a loader of ours looks for it."""
    weights: StateDict
    """What a loader uses of it, under the names that a converted file has."""
    difference: Difference = field(default_factory=Difference)
    not_finite: tuple[str, ...] = ()
    """Weights with NaN or infinity in them, once `with_numbers` has looked."""
    notes: tuple[str, ...] = ()
    problem: str = ""
    """A sentence of the loader's where there is no table to compare with."""

    @property
    def complete(self) -> bool:
        return not self.difference and not self.not_finite and not self.problem


def other_file(path: Path) -> Found | None:
    """A file of the pack that holds no tensors, by its name: a list of tags or the face detector;
    None: it has another name, or is not there."""
    if not path.is_file():
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
    elif path.name == YUNET:
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
    return replace(found, not_finite=tuple(not_finite(found.weights, sample)))


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
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        # Sizes are taken from shapes, and a shape may be anything.
        raise CheckpointError(
            f"{name} has keys of one of this pack's files, and shapes of none "
            f"({first_sentence(error)}): get the published file."
        ) from error


def _identify(contents: object, name: str, metadata: Mapping[str, str]) -> Found:
    weights = unwrapped(contents)
    if any(key.startswith(UNET) for key in weights) and any(
        key.startswith(CONTROL) for key in weights
    ):
        foreign = any(seesr.ADDED in key for key in weights)
        return _seesr_pair(weights, name) if foreign else _pasd_pair(weights, name)
    if diffbir.matches(contents):
        return _diffbir(weights, name, metadata)
    if any(seesr.ADDED in key for key in weights):
        return _seesr_part(weights)
    if pasd.variant_of(weights):
        return _pasd_unet(weights, name)
    # Without either it looks like any other ControlNet, and only its UNet gives it away.
    if any(f"{pasd.ENCODER_PREFIX}{part}." in k for k in weights for part in ENCODER_MARKS):
        return _pasd_control(weights, name)
    if any(key.startswith("visual_encoder.") for key in weights):
        if any(".lora_" in key for key in weights):
            return _dape(weights, name)
        if any(key.startswith(tagger.DECODER_NAMES) for key in weights):
            return _ram(weights)
    what = registry.describe(weights)
    if any(kind in what for kind in STAGE_1):
        return _stage_1(weights, what)
    raise CheckpointError(f"{name} is none of this pack's files: this is {what}.")


def _diffbir(weights: StateDict, name: str, metadata: Mapping[str, str]) -> Found:
    control, notes = weights, []
    whole = with_prefix(weights, diffbir.FULL_FILE_PREFIX)
    if whole:
        control = whole
        notes.append(f"{len(weights) - len(whole)} further weights of the whole v1 system, unused")
    version = metadata.get("restoration.version") or DIFFBIR_VERSIONS.get(name)
    if version is None:
        version = "v1" if whole else "v1, v2 or v2.1"
        notes.append("the versions have the same keys; only the published file name tells them")
    return Found(
        "diffbir",
        version,
        "DiffBIR's control network",
        "whole",
        "controlnet",
        control,
        difference(control, diffbir.layout(SD21)),
        notes=tuple(notes),
    )


def _pasd_version(variant: Variant, config: PASDConfig, rrdb: bool = False) -> str:
    """The authors' name for a release."""
    family = "" if config.adm_channels is None else "_sdxl"
    return f"{variant}{'_rrdb' if rrdb else ''}{family}"


def _pasd_unet(weights: StateDict, name: str) -> Found:
    variant, added = pasd.added_part(weights, name)
    plain = {key: value for key, value in weights.items() if key not in added}
    what = "PASD's light UNet" if variant == "pasd_light" else "PASD's UNet"
    try:
        config = pasd.config_from(weights, name)
    except CheckpointError:
        note = "only what PASD adds, so its control network is needed to check it"
        return Found("pasd", variant, what, "unet", "restoration", added, notes=(note,))
    return Found(
        "pasd",
        _pasd_version(variant, config),
        what,
        "unet",
        "restoration",
        added,
        difference(added, layouts.pasd_attention(variant, config, added)),
        notes=(
            f"{len(plain)} weights of Stable Diffusion beside it, unused: your checkpoint has them",
        ),
    )


def _pasd_control_layout(control: StateDict, config: PASDConfig) -> layouts.Shapes:
    encoder = with_prefix(control, pasd.ENCODER_PREFIX)
    try:
        sizes = hint_encoder_config(encoder)
    except KeyError:  # then the usual ones tell what is missing
        sizes = {"rrdb": any(key.startswith("preprocesser.") for key in encoder), "heads": True}
    return layouts.controlnet(config.unet_config(), **sizes)


def _has_rrdb(control: StateDict) -> bool:
    return any(key.startswith(f"{pasd.ENCODER_PREFIX}preprocesser.") for key in control)


def _pasd_control(weights: StateDict, name: str) -> Found:
    config = pasd.config_from(weights, name)
    encoder = "RRDB" if _has_rrdb(weights) else "plain"
    return Found(
        "pasd",
        f"{encoder} encoder, {config.family}",
        "PASD's control network",
        "control network",
        "restoration",
        weights,
        difference(weights, _pasd_control_layout(weights, config)),
    )


def _prefixed(weights: StateDict, prefix: str) -> StateDict:
    return {f"{prefix}{key}": value for key, value in weights.items()}


def _prefixed_layout(layout: layouts.Shapes, prefix: str) -> layouts.Shapes:
    return {f"{prefix}{key}": shape for key, shape in layout.items()}


def _pasd_pair(weights: StateDict, name: str) -> Found:
    variant, added = pasd.added_part(weights, name)
    control = with_prefix(weights, CONTROL)
    pasd.control_part(weights, name)  # refuses other control networks
    config = pasd.config_from(control, name)
    used = _prefixed(added, UNET) | _prefixed(control, CONTROL)
    attention = layouts.pasd_attention(variant, config, added)
    layout = _prefixed_layout(attention, UNET)
    layout |= _prefixed_layout(_pasd_control_layout(control, config), CONTROL)
    return Found(
        "pasd",
        _pasd_version(variant, config, _has_rrdb(control)),
        "a converted PASD file",
        "whole",
        "restoration",
        used,
        difference(used, layout),
    )


def _seesr_layout(part: Part, plain: bool) -> layouts.Shapes:
    if part == "control network":
        return layouts.controlnet(SD2.unet_config()) | layouts.rca(SD2.encoder_sites, SD2)
    return layouts.rca(SD2.unet_sites, SD2) | (layouts.unet(SD2.unet_config()) if plain else {})


def _seesr_part(weights: StateDict) -> Found:
    is_control = any(key.startswith("controlnet_") for key in weights)
    part: Part = "control network" if is_control else "unet"
    plain = any(seesr.ADDED not in key for key in weights)
    notes = () if plain else ("only what SeeSR adds: Load SeeSR needs your SD 2.x model beside it",)
    return Found(
        "seesr",
        "seesr",
        "SeeSR's control network" if is_control else "SeeSR's UNet",
        part,
        "restoration",
        weights,
        difference(weights, _seesr_layout(part, plain)),
        notes=notes,
    )


def _seesr_pair(weights: StateDict, name: str) -> Found:
    plain, added = seesr.unet_parts(weights, name)
    control = seesr.control_part(weights, name)
    used = _prefixed(plain | added, UNET) | _prefixed(control, CONTROL)
    layout = _prefixed_layout(_seesr_layout("unet", bool(plain)), UNET)
    layout |= _prefixed_layout(_seesr_layout("control network", True), CONTROL)
    return Found(
        "seesr",
        "seesr",
        "a converted SeeSR file",
        "whole",
        "restoration",
        used,
        difference(used, layout),
    )


def _tagger_layout() -> StateDict:
    return dict(Tagger(RAM, device="meta").state_dict())


def _ram(weights: StateDict) -> Found:
    ours, theirs = tagger.DECODER_NAMES
    layout = {key: tuple(value.shape) for key, value in _tagger_layout().items()}
    named = {
        ours + key.removeprefix(theirs) if key.startswith(theirs) else key: value
        for key, value in weights.items()
    }
    used = {key: value for key, value in named.items() if key in layout}
    rest = len(named) - len(used)
    return Found(
        "seesr",
        "ram_swin_large_14m",
        "the tagger RAM",
        "whole",
        "restoration",
        used,
        difference(used, layout),
        notes=(f"{rest} weights that tagging does not run, unused",) if rest else (),
    )


def _dape(weights: StateDict, name: str) -> Found:
    problem, used = "", weights
    try:
        pairs = tagger.dape_pairs(weights, _tagger_layout(), name)
        values = {id(value) for pair in pairs.values() for value in pair}
        used = {key: value for key, value in weights.items() if id(value) in values}
    except CheckpointError as error:
        problem = str(error)
    rest = len(weights) - len(used)
    return Found(
        "seesr",
        "DAPE",
        "SeeSR's DAPE, a LoRA for RAM",
        "whole",
        "restoration",
        used,
        notes=(f"{rest} weights of branches that are never run, unused",) if rest else (),
        problem=problem,
    )


def _stage_1(weights: StateDict, what: str) -> Found:
    """Only spandrel, which ComfyUI loads them with, knows these networks' tables."""
    name, problem, notes = next(kind for kind in STAGE_1 if kind in what), "", ()
    try:
        from spandrel import ModelLoader
    except ImportError:
        notes = ("not checked key by key: that takes the library spandrel, which ComfyUI has",)
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the networks' code
                ModelLoader().load_from_state_dict(dict(weights))
        except Exception as error:  # whatever the network of an unsuited file raises
            problem = f"spandrel cannot load it: {' '.join(str(error).split())[:300]}"
    return Found(
        "stage 1",
        name,
        what,
        "whole",
        "upscale_models",
        weights,
        notes=notes,
        problem=problem,
    )


def dtypes(weights: StateDict) -> dict[str, int]:
    """Parameters of each precision."""
    counts: Counter[str] = Counter()
    for value in weights.values():
        counts[str(value.dtype).removeprefix("torch.")] += value.numel()
    return dict(counts)
