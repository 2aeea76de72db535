"""DiffBIR's network, built from the host's classes."""

from __future__ import annotations

from typing import Any

import comfy.ops
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
            **config.sizes.unet_config(),
            "in_channels": config.in_channels + config.hint_channels,
            # Stable Diffusion 2.1 overflows in half precision without it, like the host's SD20.
            "attn_precision": torch.float32,
        }
        super().__init__(unet_config, operations, dtype=dtype, device=device)
        self.config = config
