"""SeeSR's step sets and its start point."""

from __future__ import annotations

from ..common.schedule import TRAINING_STEPS


def leading_timesteps(steps: int) -> list[int]:
    """SeeSR (diffusers' "leading", offset 1): stride (steps - 1) + 1, ..., 1."""
    stride = TRAINING_STEPS // steps
    return [stride * i + 1 for i in range(steps)][::-1]


def trailing_timesteps(steps: int) -> list[int]:
    """SeeSR-Turbo (diffusers' "trailing"): 999 downwards in equal strides."""
    return [round(TRAINING_STEPS - i * TRAINING_STEPS / steps) - 1 for i in range(steps)]
