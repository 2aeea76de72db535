"""Where the weights of a fresh PASD come from: the published script's `from_unet`, and for the RRDB encoder
the start of its own class, which that script never makes."""

from __future__ import annotations

from collections.abc import Iterable

from ..common.start import Origins, control_origins, transformer_origins, without_effect

OUTPUTS = r"pixel_attentions\.\d+\.proj_out|attn2_plus\.to_out"
"""Last layers of what is added, in both variants."""


def origins(
    control: Iterable[str], added: Iterable[str], zero_start: bool = False
) -> tuple[Origins, Origins]:
    """(of the control network, of what is added to the UNet), by published keys. zero_start: not
    as published, but so that the first step sees the base's own prediction."""
    attention = transformer_origins(added)
    return control_origins(control), without_effect(attention, OUTPUTS) if zero_start else attention
