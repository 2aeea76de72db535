"""The published ControlNet files of DiffBIR: one key layout for v1, v2 and v2.1.

Bare keys in v1_general.pth, v1_face.pth, v2.pth and DiffBIR_v2.1.pt; below `control_model.` in
general_full_v1.ckpt and face_full_v1.ckpt, which carry the whole system.
"""

from __future__ import annotations

from ..common.layout import Shapes, attention_shapes, conv_shapes, linear_shapes, norm_shapes
from ..common.state_dict import (
    StateDict,
    UnknownWeightsError,
    check_layout,
    unwrapped,
    with_prefix,
)
from .config import SD21, ControlConfig

FULL_FILE_PREFIX = "control_model."
FIRST_CONVOLUTION = "input_blocks.0.0.weight"
HINT_ENCODER = "input_hint_block."
"""What an ordinary ControlNet has and this one has not."""

EXPECTED = "the DiffBIR control network"
ADVICE = (
    "Get v2.pth, v1_general.pth, v1_face.pth or DiffBIR_v2.1.pt from "
    "https://huggingface.co/lxq007/DiffBIR-v2 and put it into models/controlnet."
)


def _residual_block(name: str, inputs: int, outputs: int, embedding: int) -> Shapes:
    shapes = {
        **norm_shapes(f"{name}.in_layers.0", inputs),
        **conv_shapes(f"{name}.in_layers.2", inputs, outputs),
        **linear_shapes(f"{name}.emb_layers.1", embedding, outputs),
        **norm_shapes(f"{name}.out_layers.0", outputs),
        **conv_shapes(f"{name}.out_layers.3", outputs, outputs),
    }
    if inputs != outputs:
        shapes |= conv_shapes(f"{name}.skip_connection", inputs, outputs, side=1)
    return shapes


def _transformer(name: str, width: int, context: int, depth: int) -> Shapes:
    shapes = {
        **norm_shapes(f"{name}.norm", width),
        **linear_shapes(f"{name}.proj_in", width, width),
        **linear_shapes(f"{name}.proj_out", width, width),
    }
    for i in range(depth):
        block = f"{name}.transformer_blocks.{i}"
        shapes |= attention_shapes(f"{block}.attn1", width, width)
        shapes |= attention_shapes(f"{block}.attn2", width, context)
        shapes |= linear_shapes(
            f"{block}.ff.net.0.proj", width, 8 * width
        )  # gated: twice 4 * width
        shapes |= linear_shapes(f"{block}.ff.net.2", 4 * width, width)
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= norm_shapes(f"{block}.{norm}", width)
    return shapes


def layout(config: ControlConfig = SD21) -> Shapes:
    """Every key of the file and its shape; the network itself uses the same names."""
    width, embedding = config.model_channels, config.time_embed_dim
    shapes = {
        **linear_shapes("time_embed.0", width, embedding),
        **linear_shapes("time_embed.2", embedding, embedding),
        **conv_shapes("input_blocks.0.0", config.in_channels + config.hint_channels, width),
    }
    widths = [width]  # of every input block, and so of its zero convolution
    depths = iter(config.transformer_depths)
    for level, multiplier in enumerate(config.channel_mult):
        if level:
            shapes |= conv_shapes(f"input_blocks.{len(widths)}.0.op", width, width)
            widths.append(width)
        for _ in range(config.num_res_blocks):
            block = f"input_blocks.{len(widths)}"
            outputs = multiplier * config.model_channels
            shapes |= _residual_block(f"{block}.0", width, outputs, embedding)
            if depth := next(depths):
                shapes |= _transformer(f"{block}.1", outputs, config.context_dim, depth)
            width = outputs
            widths.append(width)
    shapes |= _residual_block("middle_block.0", width, width, embedding)
    shapes |= _transformer("middle_block.1", width, config.context_dim, config.transformer_depth)
    shapes |= _residual_block("middle_block.2", width, width, embedding)
    for i, channels in enumerate(widths):
        shapes |= conv_shapes(f"zero_convs.{i}.0", channels, channels, side=1)
    return shapes | conv_shapes("middle_block_out.0", width, width, side=1)


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
