"""Where the weights of a fresh IRControlNet come from: the UNet's, and zero. Nothing is random."""

from __future__ import annotations

from collections.abc import Iterable

from ..common.start import COPIED, ZERO, Origins, copied_below
from .keys import FIRST_CONVOLUTION


def origins(keys: Iterable[str], in_channels: int) -> Origins:
    """By published keys. in_channels: of the UNet, whose first convolution the condition's
    channels follow."""

    def origin(key: str) -> str:
        if key.startswith(("zero_convs.", "middle_block_out.")):
            return ZERO
        return copied_below(in_channels) if key == FIRST_CONVOLUTION else COPIED

    return {key: origin(key) for key in keys}
