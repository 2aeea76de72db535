"""The published files of SeeSR: a UNet and a ControlNet in diffusers form, in which every place with a
text transformer (`attentions`) has a second one behind it (`image_attentions`)."""

from __future__ import annotations

from ..common.state_dict import (
    StateDict,
    UnknownWeightsError,
    unwrapped,
    with_prefix,
)

UNET_PREFIX, CONTROL_PREFIX = "unet.", "controlnet."
"""Of a converted file, which holds both networks."""
ENCODER_PREFIX = "controlnet_cond_embedding."
ADDED = ".image_attentions."

UNET_EXPECTED = "the UNet of SeeSR"
CONTROL_EXPECTED = "the control network of SeeSR"
ADVICE = (
    "Get the folder seesr from the releases that https://github.com/cswry/SeeSR names and put it "
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


def _network(contents: object, prefix: str) -> StateDict:
    """The weights of one network, out of its own file or of a converted one."""
    weights = unwrapped(contents)
    both = all(any(k.startswith(p) for k in weights) for p in (UNET_PREFIX, CONTROL_PREFIX))
    return with_prefix(weights, prefix) if both else weights


def _is_control(weights: StateDict) -> bool:
    return any(key.startswith("controlnet_") for key in weights)


def unet_parts(contents: object, file: str = "The file") -> tuple[StateDict, StateDict]:
    """(the plain Stable Diffusion UNet, which may be empty; SeeSR's RCAs), under the published
    keys. Raises CheckpointError unless this is SeeSR's UNet."""
    weights = _network(contents, UNET_PREFIX)
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
    weights = _network(contents, CONTROL_PREFIX)
    has_rca = any(ADDED in key for key in weights)
    if not _is_control(weights) or not has_rca:
        advice = ADVICE
        if has_rca:
            advice = "It belongs into unet_name; choose the file in the folder controlnet."
        raise UnknownWeightsError(weights, file, CONTROL_EXPECTED, advice)
    return weights
