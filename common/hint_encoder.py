"""The picture's way into a control branch: the convolutions in front of PASD's and SeeSR's ControlNet."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, silu

WIDTHS = (16, 32, 96, 256)
"""Channels at full, half, quarter and eighth resolution."""

RRDB_BLOCKS = 2
RESIDUAL = 0.2
"""Scale of every residual in an RRDB (Wang et al. 2018, ESRGAN)."""


class DenseBlock(nn.Module):
    """Five convolutions, each reading all before it; growth equals the width, 16 in PASD."""

    def __init__(self, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        for number in range(1, 6):
            conv = operations.Conv2d(number * width, width, 3, padding=1, **factory)
            self.add_module(f"conv{number}", conv)

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for number in range(1, 5):
            conv = self.get_submodule(f"conv{number}")
            features = torch.cat([features, leaky_relu(conv(features), 0.2)], 1)
        return x + RESIDUAL * self.get_submodule("conv5")(features)


class RRDB(nn.Module):
    """Residual in residual dense block (ESRGAN)."""

    def __init__(self, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(width, operations, **factory)
        self.rdb2 = DenseBlock(width, operations, **factory)
        self.rdb3 = DenseBlock(width, operations, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return x + RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))


class HintEncoder(nn.Module):
    """Degradation-removal encoder of PASD (section 3.1 of the paper), conditioning embedding of
    SeeSR: the same convolutions under the same keys. It does not see the timestep.

    rrdb: PASD's later checkpoints. heads: PASD's toRGB outputs at 1/2, 1/4 and 1/8.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = WIDTHS,
        out_channels: int = 320,
        rrdb: bool = False,
        heads: bool = False,
        operations: Any = nn,
        **factory: Any,
    ) -> None:
        """operations: torch.nn or the host's layers of the same names. factory: dtype, device."""
        super().__init__()

        def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
            return operations.Conv2d(inputs, outputs, 3, stride=stride, padding=1, **factory)

        self.conv_in = conv(3, widths[0])
        if rrdb:
            blocks = [RRDB(widths[0], operations, **factory) for _ in range(RRDB_BLOCKS)]
            self.preprocesser = nn.Sequential(*blocks)  # spelled so in the checkpoints
        else:
            self.preprocesser = nn.Identity()
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks += [conv(narrow, narrow), conv(narrow, wide, stride=2)]
        self.conv_out = conv(widths[-1], out_channels)
        if heads:
            self.to_rgbs = nn.ModuleList([conv(width, 3) for width in widths[1:]])

    @property
    def has_heads(self) -> bool:
        return hasattr(self, "to_rgbs")

    def _scales(self, image: Tensor) -> list[Tensor]:
        """Features at 1/2, 1/4, 1/8."""
        features = self.preprocesser(silu(self.conv_in(image)))
        scales = []
        for number, block in enumerate(self.blocks):
            features = silu(block(features))
            if number % 2:
                scales.append(features)
        return scales

    def forward(self, image: Tensor) -> Tensor:
        """image: B 3 H W in 0..1. Returns B out_channels H/8 W/8."""
        return self.conv_out(self._scales(image)[-1])

    def _rgbs(self, scales: list[Tensor]) -> list[Tensor]:
        heads = zip(self.to_rgbs, scales, strict=True)
        return [head(features) for head, features in heads]

    def rgbs(self, image: Tensor) -> list[Tensor]:
        """The pictures of the toRGB heads, B 3 h w at 1/2, 1/4 and 1/8, trained towards -1..1."""
        return self._rgbs(self._scales(image))

    def with_rgbs(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`forward` and `rgbs` from one pass, as training needs them."""
        scales = self._scales(image)
        return self.conv_out(scales[-1]), self._rgbs(scales)


def hint_encoder_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `HintEncoder` from the keys and shapes of its weights; LookupError where one of
    the convolutions, or its size, is missing."""
    blocks = sum(1 for key in weights if key.startswith("blocks.") and key.endswith(".weight"))
    widths = [weights["conv_in.weight"].shape[0]]
    widths += [weights[f"blocks.{number}.weight"].shape[0] for number in range(1, blocks, 2)]
    return {
        "widths": tuple(widths),
        "out_channels": weights["conv_out.weight"].shape[0],
        "rrdb": any(key.startswith("preprocesser.") for key in weights),
        "heads": any(key.startswith("to_rgbs.") for key in weights),
    }
