"""The sizes of PASD's networks: those of the Stable Diffusion UNet they were trained with."""

from __future__ import annotations

from typing import Literal

from ..common.unet import UNetSizes

Variant = Literal["pasd", "pasd_light"]


class PASDConfig(UNetSizes):
    """SD 1.x or SDXL."""

    @property
    def family(self) -> str:
        """The base model, for messages."""
        return "Stable Diffusion 1.x" if self.adm_channels is None else "SDXL"
