"""The published ControlNet files of DiffBIR: one key layout for v1, v2 and v2.1.

Bare keys in v1_general.pth, v1_face.pth, v2.pth and DiffBIR_v2.1.pt; below `control_model.` in
general_full_v1.ckpt and face_full_v1.ckpt, which carry the whole system.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..common.layout import Shapes
from ..common.recognition import Found, difference
from ..common.state_dict import (
    StateDict,
    UnknownWeightsError,
    check_layout,
    unwrapped,
    with_prefix,
)
from ..common.unet_layout import ldm_control_encoder
from .config import SD21, ControlConfig

FULL_FILE_PREFIX = "control_model."
FIRST_CONVOLUTION = "input_blocks.0.0.weight"
HINT_ENCODER = "input_hint_block."
"""What an ordinary ControlNet has and this one has not."""

VERSIONS = {
    "v2.pth": "v2",
    "v1_general.pth": "v1 general",
    "v1_face.pth": "v1 face",
    "DiffBIR_v2.1.pt": "v2.1",
    "general_full_v1.ckpt": "v1 general",
    "face_full_v1.ckpt": "v1 face",
}
"""Published names: the files have the same keys and shapes, so only the name tells."""

EXPECTED = "the DiffBIR control network"
PAGE = "https://huggingface.co/lxq007/DiffBIR-v2"
ADVICE = (
    "Get v2.pth, v1_general.pth, v1_face.pth or DiffBIR_v2.1.pt from "
    f"{PAGE} and put it into models/controlnet."
)


def layout(config: ControlConfig = SD21) -> Shapes:
    """Every key of the file and its shape; the network itself uses the same names."""
    return ldm_control_encoder(config.sizes, config.hint_channels)


def _control_part(contents: object) -> tuple[StateDict, StateDict]:
    """(all weights of a file, those of a control network in it, under bare keys)."""
    weights = unwrapped(contents)
    return weights, with_prefix(weights, FULL_FILE_PREFIX) or weights


def matches(contents: object, config: ControlConfig = SD21) -> bool:
    """Whether this is a DiffBIR control network: its first convolution reads two latents, and
    there is no hint encoder. `convert` then checks the rest."""
    _, control = _control_part(contents)
    first = control.get(FIRST_CONVOLUTION)
    return (
        first is not None
        and "zero_convs.0.0.weight" in control
        and first.ndim == 4
        and first.shape[1] == config.in_channels + config.hint_channels
        and not any(key.startswith(HINT_ENCODER) for key in control)
    )


def convert(contents: object, file: str = "The file", config: ControlConfig = SD21) -> StateDict:
    """The control network's weights under its own keys, checked one by one.

    contents: what the file held; may be wrapped in `state_dict`, prefixed with `module.`, and be
    the full v1 file. file: its name, for errors. Raises CheckpointError.
    """
    weights, control = _control_part(contents)
    if not matches(contents, config):
        raise UnknownWeightsError(weights, file, EXPECTED, ADVICE)
    check_layout(control, layout(config), file, EXPECTED, ADVICE)
    return control


def recognize(weights: StateDict, name: str, metadata: Mapping[str, str]) -> Found | None:
    """A file with DiffBIR's control network, or None."""
    if not matches(weights, SD21):
        return None
    _, control = _control_part(weights)
    notes, whole = [], len(control) < len(weights)
    if whole:
        rest = len(weights) - len(control)
        notes.append(f"{rest} further weights of the whole v1 system, unused")
    version = metadata.get("restoration.version") or VERSIONS.get(name)
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
        difference(control, layout(SD21)),
        notes=tuple(notes),
    )
