"""Keys and shapes of the diffusers-form networks, to say what a file lacks without ComfyUI.

Every function takes a config's `unet_config()`, the host's words, and gives the published keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...common.hint_encoder import HintEncoder
from ...common.layout import Shapes, attention_shapes, conv_shapes, linear_shapes, norm_shapes
from ...pasd.config import PASDConfig, Variant
from ...pasd.keys import depth_of, layer_prefix, pixel_layers
from ...seesr.config import SeeSRConfig, Site
from ...tagger.config import EMBED_WIDTH


def _residual_block(name: str, inputs: int, outputs: int, embedding: int) -> Shapes:
    shapes = {
        **norm_shapes(f"{name}.norm1", inputs),
        **conv_shapes(f"{name}.conv1", inputs, outputs),
        **linear_shapes(f"{name}.time_emb_proj", embedding, outputs),
        **norm_shapes(f"{name}.norm2", outputs),
        **conv_shapes(f"{name}.conv2", outputs, outputs),
    }
    if inputs != outputs:
        shapes |= conv_shapes(f"{name}.conv_shortcut", inputs, outputs, side=1)
    return shapes


def _projection(name: str, width: int, linear: bool) -> Shapes:
    return linear_shapes(name, width, width) if linear else conv_shapes(name, width, width, side=1)


def _transformer(name: str, width: int, context: int, depth: int, linear: bool) -> Shapes:
    shapes = {
        **norm_shapes(f"{name}.norm", width),
        **_projection(f"{name}.proj_in", width, linear),
        **_projection(f"{name}.proj_out", width, linear),
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


def _widths(config: Mapping[str, Any]) -> list[int]:
    """Of every residual of the encoder, in order."""
    base, levels = config["model_channels"], config["channel_mult"]
    widths = [base]
    for level, multiplier in enumerate(levels):
        last = level + 1 == len(levels)
        widths += [multiplier * base] * (config["num_res_blocks"][level] + (not last))
    return widths


def encoder(config: Mapping[str, Any]) -> Shapes:
    """What a UNet and its ControlNet share: embeddings, down blocks, middle."""
    base, levels = config["model_channels"], config["channel_mult"]
    context, linear = config["context_dim"], config["use_linear_in_transformer"]
    embedding = 4 * base
    shapes = {
        **conv_shapes("conv_in", config["in_channels"], base),
        **linear_shapes("time_embedding.linear_1", base, embedding),
        **linear_shapes("time_embedding.linear_2", embedding, embedding),
    }
    if config["adm_in_channels"] is not None:
        shapes |= linear_shapes("add_embedding.linear_1", config["adm_in_channels"], embedding)
        shapes |= linear_shapes("add_embedding.linear_2", embedding, embedding)
    width, depths = base, iter(config["transformer_depth"])
    for level, multiplier in enumerate(levels):
        block, outputs = f"down_blocks.{level}", multiplier * base
        for i in range(config["num_res_blocks"][level]):
            shapes |= _residual_block(f"{block}.resnets.{i}", width, outputs, embedding)
            if depth := next(depths):
                shapes |= _transformer(f"{block}.attentions.{i}", outputs, context, depth, linear)
            width = outputs
        if level + 1 < len(levels):
            shapes |= conv_shapes(f"{block}.downsamplers.0.conv", outputs, outputs)
    depth = config["transformer_depth_middle"]
    shapes |= _transformer("mid_block.attentions.0", width, context, depth, linear)
    for i in range(2):
        shapes |= _residual_block(f"mid_block.resnets.{i}", width, width, embedding)
    return shapes


def unet(config: Mapping[str, Any]) -> Shapes:
    """A plain Stable Diffusion UNet."""
    base, levels = config["model_channels"], config["channel_mult"]
    context, linear = config["context_dim"], config["use_linear_in_transformer"]
    shapes, skips = encoder(config), _widths(config)
    width = skips[-1]
    for block, level in enumerate(reversed(range(len(levels)))):
        name, outputs = f"up_blocks.{block}", levels[level] * base
        layers = config["num_res_blocks"][level] + 1
        depth = config["transformer_depth_output"][level * layers]
        for i in range(layers):
            inputs = width + skips.pop()
            shapes |= _residual_block(f"{name}.resnets.{i}", inputs, outputs, 4 * base)
            if depth:
                shapes |= _transformer(f"{name}.attentions.{i}", outputs, context, depth, linear)
            width = outputs
        if level:
            shapes |= conv_shapes(f"{name}.upsamplers.0.conv", outputs, outputs)
    return (
        shapes
        | norm_shapes("conv_norm_out", base)
        | conv_shapes("conv_out", base, config["in_channels"])
    )


def _image_encoder(**sizes: Any) -> Shapes:
    network = HintEncoder(device="meta", **sizes)
    return {
        f"controlnet_cond_embedding.{key}": tuple(value.shape)
        for key, value in network.state_dict().items()
    }


def controlnet(config: Mapping[str, Any], **encoder_sizes: Any) -> Shapes:
    """A ControlNet. encoder_sizes: arguments of `HintEncoder`."""
    sizes = {"out_channels": config["model_channels"], **encoder_sizes}
    shapes = encoder(config) | _image_encoder(**sizes)
    widths = _widths(config)
    for i, width in enumerate(widths):
        shapes |= conv_shapes(f"controlnet_down_blocks.{i}", width, width, side=1)
    return shapes | conv_shapes("controlnet_mid_block", widths[-1], widths[-1], side=1)


def pasd_attention(variant: Variant, config: PASDConfig, added: Mapping[str, Any]) -> Shapes:
    """What PASD adds to a UNet. added: what the file has of it, which alone tells the depths."""
    shapes: Shapes = {}
    for layer in pixel_layers(variant, config):
        prefix = layer_prefix(variant, layer)
        name, depth = prefix.removesuffix("."), depth_of(dict(added), prefix)
        width, context = layer.channels, layer.context_channels
        if variant == "pasd":
            shapes |= _transformer(name, width, context, depth, config.use_linear)
            continue
        shapes |= _projection(f"{name}.proj_in_plus", context, config.use_linear)
        for i in range(depth):
            block = f"{name}.transformer_blocks.{i}"
            shapes |= norm_shapes(f"{block}.norm2_plus", width)
            shapes |= attention_shapes(f"{block}.attn2_plus", width, context)
    return shapes


def rca(sites: list[Site], config: SeeSRConfig) -> Shapes:
    """What SeeSR adds at some sites."""
    linear = config.unet_config()["use_linear_in_transformer"]
    shapes: Shapes = {}
    for site in sites:
        name = site.name.removesuffix(".")
        shapes |= _transformer(name, site.channels, EMBED_WIDTH, 1, linear)
    return shapes
