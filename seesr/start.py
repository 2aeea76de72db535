"""Where the weights of a fresh SeeSR come from: the published script's `from_unet`."""

from __future__ import annotations

from collections.abc import Iterable

from ..common.start import Origins, control_origins, transformer_origins, without_effect

OUTPUTS = r"image_attentions\.\d+\.proj_out"


def origins(
    control: Iterable[str], added: Iterable[str], zero_start: bool = False
) -> tuple[Origins, Origins]:
    """(of the control network, of the RCAs added to the UNet), by published keys. The control
    network copies the UNet with its fresh RCAs. zero_start: not as published, but so that the
    first step sees the base's own prediction."""
    attention = transformer_origins(added)
    return control_origins(control), without_effect(attention, OUTPUTS) if zero_start else attention
