"""The published files of PASD: diffusers folders, of whose UNet only the added attention is used.

The rest of that UNet is Stable Diffusion itself, frozen in training, and comes from whatever
checkpoint the user has loaded. A converted file holds both networks, below `unet.` (added keys
are enough) and `controlnet.`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..common.state_dict import (
    CheckpointError,
    StateDict,
    UnknownWeightsError,
    unwrapped,
    with_prefix,
)
from .config import Layer, PASDConfig, Variant

UNET_PREFIX = "unet."
CONTROL_PREFIX = "controlnet."
ENCODER_PREFIX = "controlnet_cond_embedding."
MARKS: dict[Variant, str] = {"pasd": ".pixel_attentions.", "pasd_light": ".attn2_plus."}
"""What gives a variant away."""
ADDED = (*MARKS.values(), ".norm2_plus.", ".proj_in_plus.")

UNET_EXPECTED = "the UNet of PASD"
CONTROL_EXPECTED = "the control network of PASD"
ADVICE = (
    "Get a release from https://huggingface.co/yangtao9009/PASD (or PASD-SDXL) and put its folder "
    "into models/restoration: unet_name is unet/diffusion_pytorch_model of it, control_net_name "
    "is controlnet/diffusion_pytorch_model."
)


def _part(contents: object, prefix: str) -> StateDict:
    """The weights of one network, out of its own file or of a converted one."""
    weights = unwrapped(contents)
    both = all(
        any(key.startswith(each) for key in weights) for each in (UNET_PREFIX, CONTROL_PREFIX)
    )
    return with_prefix(weights, prefix) if both else weights


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
    weights = _part(contents, UNET_PREFIX)
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
    weights = _part(contents, CONTROL_PREFIX)
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
    weights. Raises CheckpointError where keys that tell a size are missing."""

    def count(pattern: str) -> int:
        found = {match[1] for key in control if (match := re.match(pattern, key))}
        return len(found)

    def shape(key: str) -> tuple[int, ...]:
        if key not in control:
            raise CheckpointError(f"{file} is not {CONTROL_EXPECTED}: it has no {key}. {ADVICE}")
        return tuple(control[key].shape)

    levels = range(count(r"down_blocks\.(\d+)\."))
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


def pixel_layers(variant: Variant, config: PASDConfig) -> list[Layer]:
    """The decoder layers that PASD adds attention to: all, or (light) those that have a text
    transformer."""
    return [layer for layer in config.decoder if variant == "pasd" or layer.depth]


def layer_prefix(variant: Variant, layer: Layer) -> str:
    """Below which a layer's added weights lie in the published file."""
    block, position = layer.name
    kind = "pixel_attentions" if variant == "pasd" else "attentions"
    return f"up_blocks.{block}.{kind}.{position}."


def depth_of(added: StateDict, prefix: str) -> int:
    """Blocks of the added transformer below a prefix: only the file tells (in SDXL's last level
    there is one although the UNet has none); at least 1, so that a missing one is noticed."""
    pattern = re.compile(re.escape(prefix) + r"transformer_blocks\.(\d+)\.")
    return max(1, len({match[1] for key in added if (match := pattern.match(key))}))
