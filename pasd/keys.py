"""The published files of PASD: diffusers folders, of whose UNet only the added attention is used.

The rest of that UNet is Stable Diffusion itself, frozen in training, and comes from whatever
checkpoint the user has loaded. A converted file holds both networks, below `unet.` (added keys
are enough) and `controlnet.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ..common.hint_encoder import hint_encoder_config
from ..common.layout import Shapes, attention_shapes, norm_shapes
from ..common.recognition import Found, difference, in_pair
from ..common.state_dict import (
    CONTROL_PREFIX,
    UNET_PREFIX,
    CheckpointError,
    StateDict,
    UnknownWeightsError,
    Value,
    is_pair,
    network_of,
    with_prefix,
)
from ..common.unet import DecoderLayer
from ..common.unet_layout import HINT_ENCODER, diffusers_controlnet, projection, transformer
from .config import PASDConfig, Variant

ENCODER_PREFIX = HINT_ENCODER
MARKS: dict[Variant, str] = {"pasd": ".pixel_attentions.", "pasd_light": ".attn2_plus."}
"""What gives a variant away."""
ADDED = (*MARKS.values(), ".norm2_plus.", ".proj_in_plus.")

ENCODER_MARKS = ("to_rgbs.", "preprocesser.")
"""What PASD's image encoder has and that of an ordinary ControlNet has not."""

UNET_EXPECTED = "the UNet of PASD"
CONTROL_EXPECTED = "the control network of PASD"
PAGE = "https://huggingface.co/yangtao9009/PASD"
ADVICE = (
    f"Get a release from {PAGE} (or PASD-SDXL) and put its folder "
    "into models/restoration: unet_name is unet/diffusion_pytorch_model of it, control_net_name "
    "is controlnet/diffusion_pytorch_model."
)


def is_added(key: str) -> bool:
    """Whether a key of the UNet belongs to PASD and not to Stable Diffusion."""
    return any(fragment in key for fragment in ADDED)


def variant_of(keys: Iterable[str]) -> Variant | None:
    """Which of the two structures the UNet has; None: neither, it is not PASD's."""
    keys = list(keys)
    for variant, mark in MARKS.items():
        if any(mark in key for key in keys):
            return variant
    return None


def added_part(contents: object, file: str = "The file") -> tuple[Variant, StateDict]:
    """(variant, the weights that PASD adds to a UNet, under their published keys).

    contents: what the file held. file: its name, for errors. Raises CheckpointError.
    """
    weights = network_of(contents, UNET_PREFIX)
    variant = variant_of(weights)
    if variant is None:
        if any(key.startswith(ENCODER_PREFIX) for key in weights):
            advice = "It belongs into control_net_name; choose the file in the folder unet."
        elif any(key.startswith(("up_blocks.", "model.diffusion_model.")) for key in weights):
            advice = (
                "It has no pixel-aware attention, so it can only be the base: load it with Load "
                f"Checkpoint, and give this node PASD's own UNet. {ADVICE}"
            )
        else:
            advice = ADVICE
        raise UnknownWeightsError(weights, file, UNET_EXPECTED, advice)
    return variant, {key: value for key, value in weights.items() if is_added(key)}


def control_part(contents: object, file: str = "The file") -> tuple[StateDict, StateDict]:
    """(control network without its image encoder, image encoder without its prefix), under the
    published keys. Raises CheckpointError."""
    weights = network_of(contents, CONTROL_PREFIX)
    encoder = with_prefix(weights, ENCODER_PREFIX)
    foreign = any(".image_attentions." in key for key in weights)  # SeeSR has the same encoder
    if not encoder or foreign or "controlnet_mid_block.weight" not in weights:
        swapped = variant_of(weights) is not None
        advice = "It belongs into unet_name; choose the file in the folder controlnet."
        raise UnknownWeightsError(weights, file, CONTROL_EXPECTED, advice if swapped else ADVICE)
    rest = {k: value for k, value in weights.items() if not k.startswith(ENCODER_PREFIX)}
    return rest, encoder


def config_from(control: StateDict, file: str = "The file") -> PASDConfig:
    """The sizes of a control network, which are those of its UNet, from the shapes of its
    weights. Raises CheckpointError where keys or dimensions that tell a size are missing."""

    def count(pattern: str) -> int:
        found = {match[1] for key in control if (match := re.match(pattern, key))}
        return len(found)

    def shape(key: str, dimensions: int = 2) -> tuple[int, ...]:
        if key not in control:
            raise CheckpointError(f"{file} is not {CONTROL_EXPECTED}: it has no {key}. {ADVICE}")
        found = tuple(control[key].shape)
        if len(found) < dimensions:
            raise CheckpointError(f"{file} is not {CONTROL_EXPECTED}: {key} is {found}. {ADVICE}")
        return found

    levels = range(max(1, count(r"down_blocks\.(\d+)\.")))
    sdxl = "add_embedding.linear_1.weight" in control
    middle = "mid_block.attentions.0"
    return PASDConfig(
        channels=tuple(shape(f"down_blocks.{i}.resnets.0.conv1.weight")[0] for i in levels),
        num_res_blocks=count(r"down_blocks\.0\.resnets\.(\d+)\."),
        depths=tuple(
            count(rf"down_blocks\.{i}\.attentions\.0\.transformer_blocks\.(\d+)\.") for i in levels
        ),
        middle_depth=count(rf"{re.escape(middle)}\.transformer_blocks\.(\d+)\."),
        context_dim=shape(f"{middle}.transformer_blocks.0.attn2.to_k.weight")[1],
        use_linear=len(shape(f"{middle}.proj_in.weight")) == 2,
        num_heads=-1 if sdxl else 8,
        num_head_channels=64 if sdxl else -1,
        adm_channels=shape("add_embedding.linear_1.weight")[1] if sdxl else None,
        in_channels=shape("conv_in.weight")[1],
    )


def pixel_layers(variant: Variant, config: PASDConfig) -> list[DecoderLayer]:
    """The decoder layers that PASD adds attention to: all, or (light) those that have a text
    transformer."""
    return [layer for layer in config.decoder if variant == "pasd" or layer.depth]


def layer_prefix(variant: Variant, layer: DecoderLayer) -> str:
    """Below which a layer's added weights lie in the published file."""
    block, position = layer.name
    kind = "pixel_attentions" if variant == "pasd" else "attentions"
    return f"up_blocks.{block}.{kind}.{position}."


def depth_of(added: Mapping[str, Any], prefix: str) -> int:
    """Blocks of the added transformer below a prefix: only the file tells (in SDXL's last level
    there is one although the UNet has none); at least 1, so that a missing one is noticed."""
    pattern = re.compile(re.escape(prefix) + r"transformer_blocks\.(\d+)\.")
    return max(1, len({match[1] for key in added if (match := pattern.match(key))}))


def attention_layout(variant: Variant, config: PASDConfig, added: Mapping[str, Any]) -> Shapes:
    """What PASD adds to a UNet. added: what the file has of it, which alone tells the depths."""
    shapes: Shapes = {}
    for layer in pixel_layers(variant, config):
        prefix = layer_prefix(variant, layer)
        name, depth = prefix.removesuffix("."), depth_of(added, prefix)
        width, context = layer.channels, layer.context_channels
        if variant == "pasd":
            shapes |= transformer(name, width, context, depth, config.use_linear)
            continue
        shapes |= projection(f"{name}.proj_in_plus", context, config.use_linear)
        for i in range(depth):
            block = f"{name}.transformer_blocks.{i}"
            shapes |= norm_shapes(f"{block}.norm2_plus", width)
            shapes |= attention_shapes(f"{block}.attn2_plus", width, context)
    return shapes


def attention_weights(
    variant: Variant, config: PASDConfig, added: Mapping[str, Value]
) -> dict[str, Value]:
    """The same weights under the names of `networks.pixel_attention`: the output block's number
    instead of the published prefix."""
    return {
        f"{layer.index}.{name}": value
        for layer in pixel_layers(variant, config)
        for name, value in with_prefix(added, layer_prefix(variant, layer)).items()
    }


def control_layout(config: PASDConfig, encoder: Mapping[str, Tensor]) -> Shapes:
    """The control network with its image encoder. encoder: what the file has of that, without its
    prefix, which alone tells the encoder's sizes."""
    try:
        sizes = hint_encoder_config(encoder)
    except LookupError:  # then the usual ones tell what is missing
        sizes = {"rrdb": _has_rrdb(encoder), "heads": True}
    return diffusers_controlnet(config, **{**sizes, "out_channels": config.channels[0]})


def _has_rrdb(encoder: Mapping[str, Any]) -> bool:
    return any(key.startswith("preprocesser.") for key in encoder)


# -- recognizing -----------------------------------------------------------------------------------


def recognize(weights: StateDict, name: str, metadata: Mapping[str, str]) -> Found | None:
    """One of PASD's files, or None."""
    if any(".image_attentions." in key for key in weights):
        return None  # SeeSR's have the same frame
    if is_pair(weights):
        return _pair(weights, name)
    if variant_of(weights):
        return _unet(weights, name)
    encoder = with_prefix(weights, ENCODER_PREFIX)
    # Without either it looks like any other ControlNet, and only its UNet gives it away.
    if any(key.startswith(ENCODER_MARKS) for key in encoder):
        return _control(weights, encoder, name)
    return None


def _version(variant: Variant, config: PASDConfig, rrdb: bool = False) -> str:
    """The authors' name for a release."""
    family = "" if config.adm_channels is None else "_sdxl"
    return f"{variant}{'_rrdb' if rrdb else ''}{family}"


def _unet(weights: StateDict, name: str) -> Found:
    variant, added = added_part(weights, name)
    plain = len(weights) - len(added)
    what = "PASD's light UNet" if variant == "pasd_light" else "PASD's UNet"
    try:
        config = config_from(weights, name)
    except CheckpointError:
        note = "only what PASD adds, so its control network is needed to check it"
        return Found("pasd", variant, what, "unet", "restoration", added, notes=(note,))
    layout = attention_layout(variant, config, added)
    note = f"{plain} weights of Stable Diffusion beside it, unused: your checkpoint has them"
    version = _version(variant, config)
    return Found(
        "pasd",
        version,
        what,
        "unet",
        "restoration",
        added,
        difference(added, layout),
        notes=(note,),
    )


def _control(weights: StateDict, encoder: StateDict, name: str) -> Found:
    config = config_from(weights, name)
    kind = "RRDB" if _has_rrdb(encoder) else "plain"
    return Found(
        "pasd",
        f"{kind} encoder, {config.family}",
        "PASD's control network",
        "control network",
        "restoration",
        weights,
        difference(weights, control_layout(config, encoder)),
    )


def _pair(weights: StateDict, name: str) -> Found:
    variant, added = added_part(weights, name)
    rest, encoder = control_part(weights, name)
    config = config_from(rest, name)
    used = in_pair(added, with_prefix(weights, CONTROL_PREFIX))
    layout = in_pair(attention_layout(variant, config, added), control_layout(config, encoder))
    return Found(
        "pasd",
        _version(variant, config, _has_rrdb(encoder)),
        "a converted PASD file",
        "whole",
        "restoration",
        used,
        difference(used, layout),
    )
