"""Start values of a training run: for every weight of a published layout where it comes from, and the
weights made from that.

The layers of the host leave their weights uninitialized, so nothing may be forgotten: `start_weights`
covers its whole table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .draws import generator
from .layout import Shapes
from .state_dict import StateDict
from .unet_layout import HINT_ENCODER

COPIED, ZERO, ONE = "copied", "zero", "one"
"""From the base's weight of the same name; input channels that it does not have are zero."""
TORCH_DEFAULT = "torch default"
"""Uniform within 1 / sqrt(fan in), the bias too: what torch's layers do when they are made."""
SMALL_KAIMING = "a tenth of Kaiming's normal"
"""BasicSR's start of the convolutions in dense blocks (Wang et al. 2018, ESRGAN)."""

Origins = dict[str, str]
"""{key: one of the above}"""

SMALL = 0.1


def copied_below(channels: int) -> str:
    """Origin of a first convolution that reads more than the base's `channels`."""
    return f"{COPIED}, channels {channels} and up zero"


def transformer_origins(keys: Iterable[str]) -> Origins:
    """Of added transformers as torch makes them: norms 1 and 0, all others its default. No weight
    is zero, so a fresh one changes the base's prediction at once."""

    def origin(key: str) -> str:
        *_, layer, name = key.split(".")
        if layer.startswith("norm"):
            return ONE if name == "weight" else ZERO
        return TORCH_DEFAULT

    return {key: origin(key) for key in keys}


def control_origins(keys: Iterable[str]) -> Origins:
    """Of a ControlNet in diffusers' form with a `HintEncoder`: the base's encoder, zero outputs
    (Zhang et al. 2023), and the image encoder, whose last convolution is zero too."""
    zero = ("controlnet_down_blocks.", "controlnet_mid_block.", f"{HINT_ENCODER}conv_out.")

    def origin(key: str) -> str:
        if key.startswith(zero):
            return ZERO
        if key.startswith(f"{HINT_ENCODER}preprocesser."):
            return SMALL_KAIMING if key.endswith(".weight") else ZERO
        return TORCH_DEFAULT if key.startswith(HINT_ENCODER) else COPIED

    return {key: origin(key) for key in keys}


def without_effect(origins: Origins, outputs: str) -> Origins:
    """The same with zero where a key matches the pattern `outputs`: not as published, but a start
    from exactly the base's prediction."""
    return {key: ZERO if re.search(outputs, key) else origin for key, origin in origins.items()}


def start_weights(
    layout: Shapes, origins: Origins, base: Mapping[str, Tensor], seed: int
) -> StateDict:
    """The weights of a layout, float32, on the CPU. base: what is copied, by the same names.

    Every weight is drawn by its own name, so all processes of a run draw the same. Raises KeyError
    for a weight without origin, or to be copied and not in the base.
    """
    return {
        key: _made(key, shape, origins[key], layout, base, seed) for key, shape in layout.items()
    }


def _made(
    key: str,
    shape: tuple[int, ...],
    origin: str,
    layout: Shapes,
    base: Mapping[str, Tensor],
    seed: int,
) -> Tensor:
    if origin.startswith(COPIED):
        source = base[key].detach().float().cpu()
        if source.shape == shape:
            return source.clone()
        weight = torch.zeros(shape)
        weight[:, : source.shape[1]] = source
        return weight
    if origin == ZERO:
        return torch.zeros(shape)
    if origin == ONE:
        return torch.ones(shape)
    # Of a bias, the fan in is that of the weight beside it.
    wide = layout[key.rpartition(".")[0] + ".weight"] if key.endswith(".bias") else shape
    bound, draw = 1 / math.sqrt(math.prod(wide[1:])), generator("start", seed, key)
    if origin == TORCH_DEFAULT:
        return (2 * torch.rand(shape, generator=draw) - 1) * bound
    if origin == SMALL_KAIMING:
        return torch.randn(shape, generator=draw) * (SMALL * math.sqrt(2) * bound)
    raise KeyError(f"{key}: {origin}")
