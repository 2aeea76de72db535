"""The host's control encoder as DiffBIR, PASD and SeeSR use it: without a hint encoder of its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, TypeVar

import comfy.cldm.cldm
import comfy.utils
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from torch import Tensor

from .extra_blocks import inner_options

Value = TypeVar("Value")
UNUSED = ("out_channels", "image_only_indicator", "transformer_depth_output")


class ControlEncoder(comfy.cldm.cldm.ControlNet):
    """Encoder and middle of a UNet with a zero convolution after every block (Zhang et al. 2023).

    What the picture says comes in as features, made outside once for all steps.
    """

    def __init__(self, unet_config: Mapping[str, Any], operations: Any, **factory: Any) -> None:
        """unet_config: of the UNet it was copied from, in the host's words. factory: dtype,
        device."""
        config = {"image_size": 32, "legacy": False, "use_spatial_transformer": True}
        config |= {k: v for k, v in unet_config.items() if k not in UNUSED}
        config.setdefault("hint_channels", 3)
        super().__init__(**config, operations=operations, **factory)
        del self.input_hint_block
        self.unet_config = dict(unet_config)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        hint: Tensor | None = None,
        y: Tensor | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """x: B C h w in the variance-preserving scale. timesteps: B, 0..999, float32. context:
        B N D. hint: B C' h w, added after the first convolution. y: B D', SDXL's size and text
        embedding. options: the call's `transformer_options`.

        Returns the residuals, one for every input block, and the middle one.
        """
        inside = inner_options(options or {})
        emb = self.time_embed(timestep_embedding(timesteps, self.model_channels).to(x.dtype))
        if self.num_classes is not None:
            emb = emb + self.label_emb(y)
        h, residuals = x, []
        for block, zero_conv in zip(self.input_blocks, self.zero_convs, strict=True):
            h = block(h, emb, context, inside)
            if hint is not None:
                h, hint = h + hint, None
            residuals.append(zero_conv(h, emb, context, inside))
        h = self.middle_block(h, emb, context, inside)
        return residuals, self.middle_block_out(h, emb, context, inside)

    def residuals_per_cell(self) -> float:
        """Values in all residuals for every cell of the latent."""
        blocks = self.unet_config["num_res_blocks"]
        levels = len(self.unet_config["channel_mult"])
        per_level = [blocks] * levels if isinstance(blocks, int) else blocks
        level_of = [
            0,
            *itertools.chain.from_iterable(
                # The first level starts with conv_in; every further one with its downsampler.
                ([level] * count if level == 0 else [level] * (count + 1))
                for level, count in enumerate(per_level)
            ),
        ]
        level_of.append(levels - 1)  # the middle
        convs = [*self.zero_convs, self.middle_block_out]
        return sum(
            conv[0].weight.shape[0] / 4**level for conv, level in zip(convs, level_of, strict=True)
        )


def control_weights(
    weights: Mapping[str, Value], unet_config: Mapping[str, Any]
) -> dict[str, Value]:
    """A diffusers ControlNet's weights under the names of `ControlEncoder`.

    Keys that have no place in it (the hint encoder, SeeSR's added transformers) are left out;
    KeyError never: whoever loads the result strictly sees what is missing.
    """
    table = comfy.utils.unet_to_diffusers(dict(unet_config))
    for suffix in ("weight", "bias"):
        table[f"controlnet_mid_block.{suffix}"] = f"middle_block_out.0.{suffix}"
        for key in weights:
            start, _, rest = key.partition("controlnet_down_blocks.")
            if not start and rest.endswith(suffix):
                table[key] = f"zero_convs.{rest.partition('.')[0]}.0.{suffix}"
    return {table[key]: value for key, value in weights.items() if key in table}
