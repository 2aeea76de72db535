"""PASD's networks, built from the host's classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from comfy.ldm.modules.attention import CrossAttention, SpatialTransformer
from torch import Tensor, nn

from ..common.state_dict import StateDict
from ..common.unet import DecoderLayer
from ..host.extra_blocks import Block, inner_options, tokens
from .config import PASDConfig, Variant
from .keys import depth_of, layer_prefix, pixel_layers


class PixelBlock(nn.Module):
    """What `pasd_light` adds to a text transformer's block: attention to the residual's pixels."""

    def __init__(self, layer: DecoderLayer, heads: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm2_plus = operations.LayerNorm(layer.channels, **factory)
        self.attn2_plus = CrossAttention(
            layer.channels,
            layer.context_channels,
            heads=heads,
            dim_head=layer.channels // heads,
            operations=operations,
            **factory,
        )

    def forward(self, x: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """x: B N C, the stream after text attention. context: B N C'. Returns what to add."""
        return self.attn2_plus(self.norm2_plus(x), context, transformer_options=options)


class LightTransformer(nn.Module):
    """What `pasd_light` adds to one text transformer."""

    def __init__(
        self, layer: DecoderLayer, depth: int, config: PASDConfig, operations: Any, **factory: Any
    ) -> None:
        super().__init__()
        width = layer.context_channels
        if config.use_linear:
            self.proj_in_plus = operations.Linear(width, width, **factory)
        else:
            self.proj_in_plus = operations.Conv2d(width, width, 1, **factory)
        heads = config.heads(layer.channels)
        blocks = [PixelBlock(layer, heads, operations, **factory) for _ in range(depth)]
        self.transformer_blocks = nn.ModuleList(blocks)
        self._linear = config.use_linear

    def context(self, residual: Tensor) -> Tensor:
        """residual: B C h w, scaled. Returns B (h w) C."""
        if self._linear:
            return self.proj_in_plus(tokens(residual))
        return tokens(self.proj_in_plus(residual))


def pixel_attention(
    variant: Variant, config: PASDConfig, added: StateDict, operations: Any, **factory: Any
) -> nn.ModuleDict:
    """The network that PASD adds to the UNet, by output block; `added` tells the depths."""

    def make(layer: DecoderLayer) -> nn.Module:
        depth = depth_of(added, layer_prefix(variant, layer))
        if variant == "pasd_light":
            return LightTransformer(layer, depth, config, operations, **factory)
        heads = config.heads(layer.channels)
        return SpatialTransformer(
            layer.channels,
            heads,
            layer.channels // heads,
            depth=depth,
            context_dim=[layer.context_channels] * depth,
            use_linear=config.use_linear,
            operations=operations,
            **factory,
        )

    return nn.ModuleDict({str(layer.index): make(layer) for layer in pixel_layers(variant, config)})


def pixel_blocks(
    attention: nn.ModuleDict, residuals: Sequence[Tensor], options: Mapping[str, Any]
) -> dict[str, Block]:
    """Variant `pasd`: what runs after the decoder's layers in one call. residuals: B C h w,
    scaled, in the order of the encoder. options: the call's `transformer_options`."""
    inside = inner_options(options)

    def block(transformer: nn.Module, context: Tensor) -> Block:
        return lambda h: transformer(h, context=context, transformer_options=inside)

    return {
        f"output_blocks.{index}": block(transformer, tokens(residuals[-1 - int(index)]))
        for index, transformer in attention.items()
    }


@dataclass(frozen=True)
class PASDModel:
    """What travels as PASD_MODEL: three networks, each with its own patcher."""

    variant: Variant
    config: PASDConfig
    encoder: Any
    """Patcher of a HintEncoder."""
    control: Any
    """Patcher of a ControlEncoder."""
    attention: Any
    """Patcher of `pixel_attention`'s network."""
