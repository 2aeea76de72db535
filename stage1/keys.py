"""The published networks of stage 1, which spandrel loads: it alone knows their tables."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from ..common.recognition import Found
from ..common.state_dict import Signature, StateDict

SIGNATURES = (
    Signature(
        ("relative_position_index", "conv_after_body."), "SwinIR, a stage-1 restoration model"
    ),
    Signature(("RRDB_trunk.",), "an RRDB upscaling model such as BSRNet"),
    Signature(("m_head.", "m_body.", "m_tail."), "SCUNet, a stage-1 restoration model"),
    Signature(("intro.", "middle_blks.", "ending."), "NAFNet, a restoration model"),
    Signature(("body.0.weight", "body.1.weight", "body.2.weight"), "a compact upscaling model"),
)
NAMES = ("SwinIR", "BSRNet", "SCUNet", "NAFNet", "Compact")
"""In the order of the signatures."""
TRAINED_ON = "synthetic images made by cleaner/generate.py"
"""By this in their metadata the bundled light models are known among others of their kind."""


def recognize(weights: StateDict, name: str, metadata: Mapping[str, str]) -> Found | None:
    """A network of stage 1, or None."""
    for signature, version in zip(SIGNATURES, NAMES, strict=True):
        if signature.fits(weights):
            what, folder = signature.what, "upscale_models"
            if metadata.get("trained_on") == TRAINED_ON:
                what, version, folder = "the light model that comes with the pack", "bundled", ""
            problem, notes = _tried(weights)
            return Found(
                "stage 1", version, what, "whole", folder, weights, notes=notes, problem=problem
            )
    return None


def _tried(weights: StateDict) -> tuple[str, tuple[str, ...]]:
    """(why spandrel cannot load it, notes)."""
    try:
        from spandrel import ModelLoader
    except ImportError:
        note = "not checked key by key: that takes the library spandrel, which ComfyUI has"
        return "", (note,)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the networks' code
            ModelLoader().load_from_state_dict(dict(weights))
    except Exception as error:  # whatever the network of an unsuited file raises
        return f"spandrel cannot load it: {' '.join(str(error).split())[:300]}", ()
    return "", ()
