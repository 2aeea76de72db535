"""Keys and shapes of published UNets and ControlNets, in diffusers' form and in that of ldm.

Loaders and the weights doctor check files against the same tables (`check_layout`).
"""

from __future__ import annotations

from typing import Any

from .hint_encoder import HintEncoder
from .layout import Shapes, attention_shapes, conv_shapes, linear_shapes, norm_shapes
from .unet import UNetSizes

HINT_ENCODER = "controlnet_cond_embedding."
"""Prefix of a ControlNet's own image encoder in diffusers' form."""
DIFFUSERS = ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut")
LDM = (
    "in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection",
)  # fmt: skip
"""How the two forms name the parts of a residual block."""


def _residual_block(
    name: str, inputs: int, outputs: int, embedding: int, form: tuple[str, ...] = DIFFUSERS
) -> Shapes:
    norm1, conv1, time, norm2, conv2, shortcut = (f"{name}.{part}" for part in form)
    shapes = {
        **norm_shapes(norm1, inputs),
        **conv_shapes(conv1, inputs, outputs),
        **linear_shapes(time, embedding, outputs),
        **norm_shapes(norm2, outputs),
        **conv_shapes(conv2, outputs, outputs),
    }
    return shapes if inputs == outputs else shapes | conv_shapes(shortcut, inputs, outputs, side=1)


def projection(name: str, width: int, linear: bool) -> Shapes:
    """A transformer's way in or out."""
    return linear_shapes(name, width, width) if linear else conv_shapes(name, width, width, side=1)


def transformer(name: str, width: int, context: int, depth: int, linear: bool) -> Shapes:
    """A text transformer of `depth` blocks; both forms name its parts alike."""
    shapes = {
        **norm_shapes(f"{name}.norm", width),
        **projection(f"{name}.proj_in", width, linear),
        **projection(f"{name}.proj_out", width, linear),
    }
    for i in range(depth):
        block = f"{name}.transformer_blocks.{i}"
        shapes |= attention_shapes(f"{block}.attn1", width, width)
        shapes |= attention_shapes(f"{block}.attn2", width, context)
        gated = 8 * width  # twice 4 * width
        shapes |= linear_shapes(f"{block}.ff.net.0.proj", width, gated)
        shapes |= linear_shapes(f"{block}.ff.net.2", 4 * width, width)
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= norm_shapes(f"{block}.{norm}", width)
    return shapes


def _encoder(sizes: UNetSizes) -> Shapes:
    """What a UNet and its ControlNet share: embeddings, down blocks, middle."""
    base, embedding = sizes.channels[0], sizes.embedding
    context, linear = sizes.context_dim, sizes.use_linear
    shapes = {
        **conv_shapes("conv_in", sizes.in_channels, base),
        **linear_shapes("time_embedding.linear_1", base, embedding),
        **linear_shapes("time_embedding.linear_2", embedding, embedding),
    }
    if sizes.adm_channels is not None:
        shapes |= linear_shapes("add_embedding.linear_1", sizes.adm_channels, embedding)
        shapes |= linear_shapes("add_embedding.linear_2", embedding, embedding)
    width = base
    for level, (outputs, depth) in enumerate(zip(sizes.channels, sizes.depths, strict=True)):
        block = f"down_blocks.{level}"
        for i in range(sizes.num_res_blocks):
            shapes |= _residual_block(f"{block}.resnets.{i}", width, outputs, embedding)
            if depth:
                shapes |= transformer(f"{block}.attentions.{i}", outputs, context, depth, linear)
            width = outputs
        if level + 1 < len(sizes.channels):
            shapes |= conv_shapes(f"{block}.downsamplers.0.conv", outputs, outputs)
    shapes |= transformer("mid_block.attentions.0", width, context, sizes.middle_depth, linear)
    for i in range(2):
        shapes |= _residual_block(f"mid_block.resnets.{i}", width, width, embedding)
    return shapes


def diffusers_unet(sizes: UNetSizes) -> Shapes:
    """A plain Stable Diffusion UNet."""
    shapes, width = _encoder(sizes), sizes.channels[-1]
    for layer in sizes.decoder:
        block, i = layer.name
        name, inputs = f"up_blocks.{block}", width + layer.context_channels
        shapes |= _residual_block(f"{name}.resnets.{i}", inputs, layer.channels, sizes.embedding)
        if layer.depth:
            shapes |= transformer(
                f"{name}.attentions.{i}",
                layer.channels,
                sizes.context_dim,
                layer.depth,
                sizes.use_linear,
            )
        width = layer.channels
        if i == sizes.num_res_blocks and block + 1 < len(sizes.channels):
            shapes |= conv_shapes(f"{name}.upsamplers.0.conv", width, width)
    return (
        shapes
        | norm_shapes("conv_norm_out", width)
        | conv_shapes("conv_out", width, sizes.in_channels)
    )


def diffusers_controlnet(sizes: UNetSizes, **encoder_sizes: Any) -> Shapes:
    """A ControlNet whose image encoder is a `HintEncoder`; encoder_sizes: arguments of that."""
    arguments = {"out_channels": sizes.channels[0], **encoder_sizes}
    encoder = HintEncoder(device="meta", **arguments).state_dict()
    shapes = _encoder(sizes)
    shapes |= {f"{HINT_ENCODER}{key}": tuple(value.shape) for key, value in encoder.items()}
    widths = sizes.residual_channels
    for i, width in enumerate(widths):
        shapes |= conv_shapes(f"controlnet_down_blocks.{i}", width, width, side=1)
    return shapes | conv_shapes("controlnet_mid_block", widths[-1], widths[-1], side=1)


def ldm_control_encoder(sizes: UNetSizes, hint_channels: int) -> Shapes:
    """A ControlNet in ldm's form that reads `hint_channels` further channels beside the latent and
    has no image encoder."""
    width, embedding = sizes.channels[0], sizes.embedding
    context, linear = sizes.context_dim, sizes.use_linear
    shapes = {
        **linear_shapes("time_embed.0", width, embedding),
        **linear_shapes("time_embed.2", embedding, embedding),
        **conv_shapes("input_blocks.0.0", sizes.in_channels + hint_channels, width),
    }
    number = 1  # of the next input block
    for level, (outputs, depth) in enumerate(zip(sizes.channels, sizes.depths, strict=True)):
        if level:
            shapes |= conv_shapes(f"input_blocks.{number}.0.op", width, width)
            number += 1
        for _ in range(sizes.num_res_blocks):
            block = f"input_blocks.{number}"
            shapes |= _residual_block(f"{block}.0", width, outputs, embedding, LDM)
            if depth:
                shapes |= transformer(f"{block}.1", outputs, context, depth, linear)
            width, number = outputs, number + 1
    shapes |= _residual_block("middle_block.0", width, width, embedding, LDM)
    shapes |= transformer("middle_block.1", width, context, sizes.middle_depth, linear)
    shapes |= _residual_block("middle_block.2", width, width, embedding, LDM)
    for i, channels in enumerate(sizes.residual_channels):
        shapes |= conv_shapes(f"zero_convs.{i}.0", channels, channels, side=1)
    return shapes | conv_shapes("middle_block_out.0", width, width, side=1)
