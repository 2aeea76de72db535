"""Keys and shapes of Stable Diffusion's VAE, in diffusers' form."""

from __future__ import annotations

from dataclasses import dataclass

from .layout import Shapes, conv_shapes, linear_shapes, norm_shapes


@dataclass(frozen=True)
class VAESizes:
    """The defaults are those of Stable Diffusion 1.x and 2.x."""

    channels: tuple[int, ...] = (128, 256, 512, 512)
    """Width of every level, from fine to coarse."""
    num_res_blocks: int = 2
    latent_channels: int = 4


def diffusers_vae_encoder(sizes: VAESizes) -> Shapes:
    """What turns pixels into mean and log variance of the latent, `quant_conv` included."""
    width, coarse = sizes.channels[0], sizes.channels[-1]
    shapes = conv_shapes("encoder.conv_in", 3, width)
    for level, outputs in enumerate(sizes.channels):
        block = f"encoder.down_blocks.{level}"
        for i in range(sizes.num_res_blocks):
            shapes |= _residual_block(f"{block}.resnets.{i}", width, outputs)
            width = outputs
        if level + 1 < len(sizes.channels):
            shapes |= conv_shapes(f"{block}.downsamplers.0.conv", outputs, outputs)
    middle = "encoder.mid_block"
    for i in range(2):
        shapes |= _residual_block(f"{middle}.resnets.{i}", coarse, coarse)
    shapes |= norm_shapes(f"{middle}.attentions.0.group_norm", coarse)
    for projection in ("to_q", "to_k", "to_v", "to_out.0"):
        shapes |= linear_shapes(f"{middle}.attentions.0.{projection}", coarse, coarse)
    moments = 2 * sizes.latent_channels
    return (
        shapes
        | norm_shapes("encoder.conv_norm_out", coarse)
        | conv_shapes("encoder.conv_out", coarse, moments)
        | conv_shapes("quant_conv", moments, moments, side=1)
    )


def _residual_block(name: str, inputs: int, outputs: int) -> Shapes:
    shapes = {
        **norm_shapes(f"{name}.norm1", inputs),
        **conv_shapes(f"{name}.conv1", inputs, outputs),
        **norm_shapes(f"{name}.norm2", outputs),
        **conv_shapes(f"{name}.conv2", outputs, outputs),
    }
    if inputs != outputs:
        shapes |= conv_shapes(f"{name}.conv_shortcut", inputs, outputs, side=1)
    return shapes
