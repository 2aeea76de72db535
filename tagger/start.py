"""Where the weights of a fresh DAPE come from: loralib's start, which changes nothing (Hu et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable

from ..common.start import TORCH_DEFAULT, ZERO, Origins


def origins(keys: Iterable[str]) -> Origins:
    """By published keys."""
    return {key: TORCH_DEFAULT if key.endswith(".lora_A") else ZERO for key in keys}
