"""The sizes of DiffBIR's control network."""

from __future__ import annotations

from dataclasses import dataclass

from ..common.unet import UNetSizes

AUGMENTED = 200
"""v2.1 learned with its condition noised to a timestep below this."""


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
    """Channels of the noisy latent."""
    hint_channels: int = 4
    """Channels of the condition latent, which follows the noisy one in the first convolution."""

    @classmethod
    def of(cls, sizes: UNetSizes) -> ControlConfig:
        """For a base of these sizes. `sizes` turned around."""
        width = sizes.channels[0]
        levels = reversed(list(enumerate(sizes.depths)))
        return cls(
            model_channels=width,
            channel_mult=tuple(each // width for each in sizes.channels),
            num_res_blocks=sizes.num_res_blocks,
            attention_resolutions=tuple(2**level for level, depth in levels if depth),
            transformer_depth=max(sizes.depths),
            num_head_channels=sizes.num_head_channels,
            context_dim=sizes.context_dim,
            in_channels=sizes.in_channels,
            hint_channels=sizes.in_channels,
        )

    @property
    def sizes(self) -> UNetSizes:
        """The same in the vocabulary of all methods."""
        return UNetSizes(
            channels=tuple(self.model_channels * multiplier for multiplier in self.channel_mult),
            num_res_blocks=self.num_res_blocks,
            depths=tuple(
                self.transformer_depth if 2**level in self.attention_resolutions else 0
                for level in range(len(self.channel_mult))
            ),
            middle_depth=self.transformer_depth,
            context_dim=self.context_dim,
            use_linear=True,
            num_heads=-1,
            num_head_channels=self.num_head_channels,
            in_channels=self.in_channels,
        )


SD21 = ControlConfig()
