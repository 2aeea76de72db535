"""The sizes of DiffBIR's control network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ControlConfig:
    """IRControlNet: the encoder and middle block of a Stable Diffusion UNet, reading a latent.

    The defaults are those of every published file (v1, v2, v2.1): Stable Diffusion 2.1.
    """

    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    """Width of each level, in units of `model_channels`."""
    num_res_blocks: int = 2
    """Per level."""
    attention_resolutions: tuple[int, ...] = (4, 2, 1)
    """Downsampling factors at which there is a transformer; the middle block always has one."""
    transformer_depth: int = 1
    num_head_channels: int = 64
    context_dim: int = 1024
    """Width of the text tokens."""
    in_channels: int = 4
    """Of the noisy latent."""
    hint_channels: int = 4
    """Of the condition latent, which follows the noisy one in the first convolution."""

    @property
    def time_embed_dim(self) -> int:
        return 4 * self.model_channels

    @property
    def transformer_depths(self) -> list[int]:
        """Of every residual block of the encoder, in order."""
        return [
            self.transformer_depth if 2**level in self.attention_resolutions else 0
            for level in range(len(self.channel_mult))
            for _ in range(self.num_res_blocks)
        ]


SD21 = ControlConfig()
