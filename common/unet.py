"""The sizes of a Stable Diffusion UNet, in one vocabulary for all methods, the host and the files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DecoderLayer:
    """A layer of the UNet's decoder."""

    index: int
    """Its place in the host's `output_blocks`."""
    name: tuple[int, int]
    """(block, layer) of diffusers' `up_blocks`."""
    channels: int
    context_channels: int
    """Channels of the residual that is added to its skip."""
    depth: int
    """Blocks of its text transformer; 0: it has none."""


@dataclass(frozen=True)
class UNetSizes:
    """Levels run from fine to coarse. The number of heads is not written in a file: a fixed one at
    every level (8 in SD 1.x), or `num_head_channels` wide ones; the other of the two is -1."""

    channels: tuple[int, ...]
    """Width of every level."""
    num_res_blocks: int
    """Residual blocks of every level of the encoder; the decoder has one more."""
    depths: tuple[int, ...]
    """Blocks of the text transformers at every level, 0 for none."""
    middle_depth: int
    context_dim: int
    """Width of the text tokens."""
    use_linear: bool
    """Whether projections of transformers are linear layers and not convolutions."""
    num_heads: int = 8
    num_head_channels: int = -1
    adm_channels: int | None = None
    """Width of SDXL's second conditioning, None for others."""
    in_channels: int = 4

    def heads(self, channels: int) -> int:
        """Attention heads at a width."""
        return channels // self.num_head_channels if self.num_heads < 0 else self.num_heads

    @property
    def embedding(self) -> int:
        """Width of the time embedding."""
        return 4 * self.channels[0]

    @property
    def residual_channels(self) -> list[int]:
        """Width of every residual, in the order of the encoder."""
        widths = [self.channels[0]]
        for level, width in enumerate(self.channels):
            widths += [width] * self.num_res_blocks
            if level + 1 < len(self.channels):
                widths.append(width)
        return widths

    @property
    def decoder(self) -> list[DecoderLayer]:
        """Its layers from coarse to fine: layer n uses residual n from the end."""
        layers = []
        for index, context in enumerate(reversed(self.residual_channels)):
            block, layer = divmod(index, self.num_res_blocks + 1)
            width, depth = self.channels[-1 - block], self.depths[-1 - block]
            layers.append(DecoderLayer(index, (block, layer), width, context, depth))
        return layers

    def unet_config(self) -> dict[str, Any]:
        """The same in the host's words."""
        levels = len(self.channels)
        return {
            "image_size": 32,
            "in_channels": self.in_channels,
            "out_channels": self.in_channels,
            "model_channels": self.channels[0],
            "channel_mult": [width // self.channels[0] for width in self.channels],
            "num_res_blocks": [self.num_res_blocks] * levels,
            "transformer_depth": [d for d in self.depths for _ in range(self.num_res_blocks)],
            "transformer_depth_middle": self.middle_depth,
            "transformer_depth_output": [
                d for d in self.depths for _ in range(self.num_res_blocks + 1)
            ],
            "num_heads": self.num_heads,
            "num_head_channels": self.num_head_channels,
            "context_dim": self.context_dim,
            "use_linear_in_transformer": self.use_linear,
            "use_spatial_transformer": True,
            "adm_in_channels": self.adm_channels,
            "num_classes": None if self.adm_channels is None else "sequential",
            "legacy": False,
        }
