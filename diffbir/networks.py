"""DiffBIR's network, built from the host's classes."""

from __future__ import annotations

from typing import Any

import comfy.controlnet
import comfy.latent_formats
import comfy.ops
import comfy.sample
import comfy.utils
import torch

from ..host.control_encoder import ControlEncoder
from .config import SD21, ControlConfig


class DiffBIRControlNet(ControlEncoder):
    """IRControlNet (DiffBIR, Lin et al. 2023): the condition latent enters beside the noisy one,
    through a first convolution with twice the channels."""

    def __init__(
        self,
        config: ControlConfig = SD21,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        operations: Any = comfy.ops.manual_cast,
    ) -> None:
        unet_config = {
            "in_channels": config.in_channels + config.hint_channels,
            "model_channels": config.model_channels,
            "num_res_blocks": config.num_res_blocks,
            "channel_mult": config.channel_mult,
            "num_head_channels": config.num_head_channels,
            "use_linear_in_transformer": True,
            "transformer_depth": config.transformer_depths,
            "transformer_depth_middle": config.transformer_depth,
            "context_dim": config.context_dim,
            # Stable Diffusion 2.1 overflows in half precision without it, like the host's SD20.
            "attn_precision": torch.float32,
        }
        super().__init__(unet_config, operations, dtype=dtype, device=device)
        self.config = config
