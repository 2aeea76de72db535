"""What a part in training stands on, from ComfyUI's own objects: the sizes of a UNet, a copy of a MODEL's
weights, its table of noise levels, and the posterior of a VAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..common.unet import UNetSizes


def sizes_of(unet_config: Mapping[str, Any]) -> UNetSizes:
    """The host's words for a UNet in the pack's."""
    width, levels = unet_config["model_channels"], len(unet_config["channel_mult"])
    blocks = unet_config["num_res_blocks"]
    per_level = blocks if isinstance(blocks, int) else blocks[0]
    depths = list(unet_config["transformer_depth"])
    return UNetSizes(
        channels=tuple(width * factor for factor in unet_config["channel_mult"]),
        num_res_blocks=per_level,
        depths=tuple(depths[level * per_level] for level in range(levels)),
        middle_depth=unet_config["transformer_depth_middle"],
        context_dim=unet_config["context_dim"],
        use_linear=bool(unet_config.get("use_linear_in_transformer")),
        num_heads=unet_config.get("num_heads", -1),
        num_head_channels=unet_config.get("num_head_channels", -1),
        adm_channels=unet_config.get("adm_in_channels"),
        in_channels=unet_config["in_channels"],
    )


class Moments(nn.Module):
    """The VAE's posterior: the host's own call gives its mode alone."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """B 3 H W in -1..1 -> mean and logvar, B 4 h w, float32, not scaled."""
        found = self.quant_conv(self.encoder(pixels.to(self.quant_conv.weight.dtype)))
        mean, logvar = found.float().chunk(2, 1)
        return mean, logvar
