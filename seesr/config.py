"""The sizes of SeeSR's networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..common.unet import UNetSizes


@dataclass(frozen=True)
class RCASite:
    """A place where an RCA, SeeSR's second transformer, stands behind a text transformer."""

    name: str
    """In the published file."""
    layer: str
    """In the host's network (see host/extra_blocks.py)."""
    channels: int


@dataclass(frozen=True)
class SeeSRConfig:
    """The Stable Diffusion UNet that SeeSR was trained with; levels run from fine to coarse. The
    defaults are those of Stable Diffusion 2, of which the only published files are."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    num_res_blocks: int = 2
    """Residual blocks of every level of the encoder; the decoder has one more."""
    transformers: tuple[bool, ...] = (True, True, True, False)
    """Which levels have them; the middle always has one."""
    context_dim: int = 1024
    """Width of the text tokens."""
    num_head_channels: int = 64
    in_channels: int = 4
    embed_width: int = 512
    """Width of the tagger's image embeddings, which every RCA attends to."""

    @property
    def encoder_sites(self) -> list[RCASite]:
        """Those of the ControlNet: encoder and middle."""
        blocks = self.num_res_blocks
        sites = [
            RCASite(
                f"down_blocks.{level}.image_attentions.{i}.",
                f"input_blocks.{1 + (blocks + 1) * level + i}",
                width,
            )
            for level, width in enumerate(self.channels)
            if self.transformers[level]
            for i in range(blocks)
        ]
        middle = RCASite("mid_block.image_attentions.0.", "middle_block.1", self.channels[-1])
        return [*sites, middle]

    @property
    def unet_sites(self) -> list[RCASite]:
        """Those of the UNet: the ControlNet's and the decoder's."""
        blocks = self.num_res_blocks + 1
        decoder = [
            RCASite(
                f"up_blocks.{block}.image_attentions.{i}.",
                f"output_blocks.{blocks * block + i}",
                width,
            )
            for block, width in enumerate(reversed(self.channels))
            if self.transformers[-1 - block]
            for i in range(blocks)
        ]
        return [*self.encoder_sites, *decoder]

    @classmethod
    def of(cls, sizes: UNetSizes) -> SeeSRConfig:
        """For a base of these sizes, with the tagger as published. `sizes` turned around."""
        return cls(
            channels=sizes.channels,
            num_res_blocks=sizes.num_res_blocks,
            transformers=tuple(depth > 0 for depth in sizes.depths),
            context_dim=sizes.context_dim,
            num_head_channels=sizes.num_head_channels,
            in_channels=sizes.in_channels,
        )

    @property
    def sizes(self) -> UNetSizes:
        """The same in the vocabulary of all methods."""
        return UNetSizes(
            channels=self.channels,
            num_res_blocks=self.num_res_blocks,
            depths=tuple(int(there) for there in self.transformers),
            middle_depth=1,
            context_dim=self.context_dim,
            use_linear=True,
            num_heads=-1,
            num_head_channels=self.num_head_channels,
            in_channels=self.in_channels,
        )

    def unet_config(self) -> dict[str, Any]:
        """The same in the host's words."""
        return self.sizes.unet_config()


SD2 = SeeSRConfig()
