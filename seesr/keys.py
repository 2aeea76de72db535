"""The published files of SeeSR: a UNet and a ControlNet in diffusers form, in which every place with a
text transformer (`attentions`) has a second one behind it (`image_attentions`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..common.layout import Shapes
from ..common.recognition import Found, Part, difference, in_pair
from ..common.state_dict import (
    CONTROL_PREFIX,
    UNET_PREFIX,
    StateDict,
    UnknownWeightsError,
    Value,
    is_pair,
    network_of,
    with_prefix,
)
from ..common.unet_layout import HINT_ENCODER, diffusers_controlnet, diffusers_unet, transformer
from .config import SD2, RCASite, SeeSRConfig

ENCODER_PREFIX = HINT_ENCODER
ADDED = ".image_attentions."

UNET_EXPECTED = "the UNet of SeeSR"
CONTROL_EXPECTED = "the control network of SeeSR"
PAGE = "https://github.com/cswry/SeeSR"
ADVICE = (
    f"Get the folder seesr from the releases that {PAGE} names and put it "
    "into models/restoration: unet_name is unet/diffusion_pytorch_model.safetensors of it, "
    "control_net_name is controlnet/diffusion_pytorch_model.safetensors."
)
IDENTITY = (
    "conv_in.bias",
    "time_embedding.linear_1.bias",
    "mid_block.attentions.0.transformer_blocks.0.norm2.bias",
    "conv_norm_out.bias",
)
"""Weights of Stable Diffusion by which two UNets are told apart: small, and every training moves
them."""


def _is_control(weights: StateDict) -> bool:
    return any(key.startswith("controlnet_") for key in weights)


def unet_parts(contents: object, file: str = "The file") -> tuple[StateDict, StateDict]:
    """(the plain Stable Diffusion UNet, which may be empty; SeeSR's RCAs), under the published
    keys. Raises CheckpointError unless this is SeeSR's UNet."""
    weights = network_of(contents, UNET_PREFIX)
    has_rca = any(ADDED in key for key in weights)
    if _is_control(weights) or not has_rca:
        advice = ADVICE
        if has_rca:
            advice = "It belongs into control_net_name; choose the file in the folder unet."
        raise UnknownWeightsError(weights, file, UNET_EXPECTED, advice)
    added = {key: value for key, value in weights.items() if ADDED in key}
    return {key: value for key, value in weights.items() if ADDED not in key}, added


def control_part(contents: object, file: str = "The file") -> StateDict:
    """The control network under its published keys. Raises CheckpointError for anything else;
    whether all keys are there is for the network to say."""
    weights = network_of(contents, CONTROL_PREFIX)
    has_rca = any(ADDED in key for key in weights)
    if not _is_control(weights) or not has_rca:
        advice = ADVICE
        if has_rca:
            advice = "It belongs into unet_name; choose the file in the folder controlnet."
        raise UnknownWeightsError(weights, file, CONTROL_EXPECTED, advice)
    return weights


def rca_layout(config: SeeSRConfig, sites: Sequence[RCASite]) -> Shapes:
    """What SeeSR adds at some sites."""
    shapes: Shapes = {}
    for site in sites:
        shapes |= transformer(
            site.name.removesuffix("."), site.channels, config.embed_width, 1, True
        )
    return shapes


def rca_weights(weights: Mapping[str, Value], sites: Sequence[RCASite]) -> dict[str, Value]:
    """The published weights of all sites under the names of `networks.rca_layers`: the site's
    number instead of its published prefix."""
    return {
        f"{i}.{name}": value
        for i, site in enumerate(sites)
        for name, value in with_prefix(weights, site.name).items()
    }


def unet_layout(config: SeeSRConfig, plain: bool) -> Shapes:
    """SeeSR's UNet. plain: with the Stable Diffusion UNet that the RCAs stand in."""
    added = rca_layout(config, config.unet_sites)
    return added | diffusers_unet(config.sizes) if plain else added


def control_layout(config: SeeSRConfig) -> Shapes:
    """SeeSR's control network with its image encoder."""
    return diffusers_controlnet(config.sizes) | rca_layout(config, config.encoder_sites)


# -- recognizing -----------------------------------------------------------------------------------


def recognize(weights: StateDict, name: str, metadata: Mapping[str, str]) -> Found | None:
    """One of SeeSR's own files, or None."""
    if not any(ADDED in key for key in weights):
        return None
    part: Part
    if is_pair(weights):
        plain, added = unet_parts(weights, name)
        unet, control = plain | added, control_part(weights, name)
        used = in_pair(unet, control)
        layout = in_pair(unet_layout(SD2, bool(plain)), control_layout(SD2))
        what, part = "a converted SeeSR file", "whole"
    elif _is_control(weights):
        used, layout = weights, control_layout(SD2)
        what, part = "SeeSR's control network", "control network"
    else:
        plain = {key: value for key, value in weights.items() if ADDED not in key}
        used, layout = weights, unet_layout(SD2, bool(plain))
        what, part = "SeeSR's UNet", "unet"
    lone = part == "unet" and len(layout) == len(rca_layout(SD2, SD2.unet_sites))
    notes = ("only what SeeSR adds: Load SeeSR needs your SD 2.x model beside it",) if lone else ()
    return Found(
        "seesr", "seesr", what, part, "restoration", used, difference(used, layout), notes=notes
    )
