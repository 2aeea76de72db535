"""Checkpoints as dictionaries: unwrapping, what a file looks like, and one strict check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

StateDict = dict[str, Tensor]
Layout = Mapping[str, tuple[int, ...]]
"""Every key of a network and the shape of its tensor."""

WRAPPINGS = ("state_dict", "module", "model", "params_ema", "params")
"""Keys under which training scripts put the weights, with other things beside them."""

SIGNATURES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("control_model.zero_convs.", "preprocess_model."), "a whole DiffBIR v1 model"),
    (("input_hint_block.",), "a Stable Diffusion ControlNet with a hint encoder"),
    (("controlnet_cond_embedding.to_rgbs.",), "PASD's control network"),
    (("controlnet_cond_embedding.", "image_attentions."), "SeeSR's control network"),
    (("controlnet_cond_embedding.",), "a Stable Diffusion ControlNet in diffusers form"),
    (("zero_convs.", "input_blocks."), "a DiffBIR control network"),
    (("pixel_attentions.",), "PASD's UNet"),
    (("attn2_plus.",), "PASD's light UNet"),
    (("up_blocks.", "image_attentions."), "SeeSR's UNet"),
    (("model.diffusion_model.",), "a Stable Diffusion checkpoint"),
    (("input_blocks.", "output_blocks."), "a Stable Diffusion UNet"),
    (
        ("down_blocks.", "up_blocks.", "time_embedding."),
        "a Stable Diffusion UNet in diffusers form",
    ),
    (("visual_encoder.", ".lora_A"), "SeeSR's DAPE, a LoRA for RAM"),
    (("visual_encoder.", "tagging_head."), "the tagger RAM"),
    (("visual_encoder.", "vision_multi."), "the tagger RAM"),
    ((".lora_",), "a LoRA"),
    (("relative_position_index", "conv_after_body."), "SwinIR, a stage-1 restoration model"),
    (("RRDB_trunk.",), "an RRDB upscaling model such as BSRNet"),
    (("m_head.", "m_body.", "m_tail."), "SCUNet, a stage-1 restoration model"),
    (("quant_conv.", "decoder.up"), "a VAE"),
    (("resblocks.",), "a CLIP text encoder"),
    (("text_model.encoder.",), "a CLIP text encoder"),
)
"""(what must occur in the keys, what the file then is), specific before broad."""


class CheckpointError(ValueError):
    """A file that holds something else, or not all, of what a loader expects."""


def describe(keys: Mapping[str, Any]) -> str:
    """What a state dict is, in words that go after "this is"."""
    for fragments, name in SIGNATURES:
        if all(any(fragment in key for key in keys) for fragment in fragments):
            return name
    if not keys:
        return "a file without any weights"
    return f"an unknown model (first of {len(keys)} keys: {_first(keys)})"


def unwrapped(contents: object) -> StateDict:
    """The tensors of a checkpoint, out of its wrapping and without DataParallel's `module.`."""
    while isinstance(contents, Mapping):
        inside = next((w for w in WRAPPINGS if isinstance(contents.get(w), Mapping)), None)
        if inside is None:
            break
        contents = contents[inside]
    if not isinstance(contents, Mapping):
        return {}
    weights = {str(key): value for key, value in contents.items() if isinstance(value, Tensor)}
    if weights and all(key.startswith("module.") for key in weights):
        return with_prefix(weights, "module.")
    return weights


def with_prefix(weights: StateDict, prefix: str) -> StateDict:
    """The entries below `prefix`, named without it."""
    return {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}


def check_layout(weights: StateDict, layout: Layout, file: str, expected: str, advice: str) -> None:
    """Raises CheckpointError, one sentence with what was found, unless keys and shapes agree."""
    missing = layout.keys() - weights.keys()
    unexpected = weights.keys() - layout.keys()
    reshaped = [
        key for key in layout if key in weights and tuple(weights[key].shape) != layout[key]
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(layout)} weights are missing ({_first(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} do not belong to it ({_first(unexpected)})")
    if reshaped:
        key = reshaped[0]
        problems.append(
            f"{len(reshaped)} have another shape ({key} is {tuple(weights[key].shape)}, "
            f"expected {layout[key]})"
        )
    if problems:
        raise CheckpointError(f"{file} is not {expected}: {', '.join(problems)}. {advice}")


def _first(keys: object, count: int = 3) -> str:
    names = sorted(keys)  # type: ignore[arg-type]
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
