"""SeeSR's networks, built from the host's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.attention import SpatialTransformer
from torch import Tensor, nn

from ..common.hint_encoder import HintEncoder
from ..host.control_encoder import ControlEncoder
from ..host.extra_blocks import Block, after, inner_options
from .config import RCASite, SeeSRConfig


def rca_layers(
    sites: Sequence[RCASite], config: SeeSRConfig, operations: Any, **factory: Any
) -> nn.ModuleList:
    """One transformer for each site: representation cross attention, which in the published code
    is a whole transformer with its own self attention and feed-forward."""
    width = config.num_head_channels
    return nn.ModuleList(
        SpatialTransformer(
            site.channels,
            site.channels // width,
            width,
            depth=1,
            context_dim=config.embed_width,
            use_linear=True,
            # As in the text transformer before it.
            attn_precision=torch.float32,
            operations=operations,
            **factory,
        )
        for site in sites
    )


def rca_blocks(
    layers: nn.ModuleList, sites: Sequence[RCASite], embeds: Tensor, options: Mapping[str, Any]
) -> dict[str, Block]:
    """What runs after the layers of a network in one call. embeds: rows N 512."""
    inside = inner_options(options)

    def block(layer: nn.Module) -> Block:
        return lambda h: layer(h, embeds, inside)

    return {site.layer: block(layer) for site, layer in zip(sites, layers, strict=True)}


class SeeSRControlNet(nn.Module):
    """The host's control encoder with an RCA after every text transformer."""

    def __init__(self, config: SeeSRConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.sites = config.encoder_sites
        self.hint = HintEncoder(out_channels=config.channels[0], operations=operations, **factory)
        unet_config = {**config.unet_config(), "attn_precision": torch.float32}
        self.encoder = ControlEncoder(unet_config, operations, **factory)
        self.rca = rca_layers(self.sites, config, operations, **factory)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        hint: Tensor,
        embeds: Tensor,
        options: Mapping[str, Any],
    ) -> tuple[list[Tensor], Tensor]:
        """embeds: rows N 512. The others, and what is returned: see `ControlEncoder`."""
        with after(self.encoder, rca_blocks(self.rca, self.sites, embeds, options)):
            return self.encoder(x, timesteps, context, hint, options=options)


@dataclass(frozen=True)
class SeeSRModel:
    """What travels as SEESR_MODEL: two networks, each with its own patcher."""

    config: SeeSRConfig
    control: Any
    """Patcher of a SeeSRControlNet."""
    rca: Any
    """Patcher of the UNet's RCAs, in the order of `config.unet_sites`."""
    identity: Mapping[str, Tensor]
    """Some weights of the UNet that SeeSR was trained with, by their published keys; empty where
    the file has none."""
