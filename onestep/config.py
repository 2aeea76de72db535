"""What the one-step methods stand on: Stable Diffusion 2.1 base and low-rank adapters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..common.unet import UNetSizes
from ..common.vae_layout import VAESizes

Kind = Literal["osediff", "pisasr"]
TITLES: dict[Kind, str] = {"osediff": "OSEDiff", "pisasr": "PiSA-SR"}

LORA_ALPHA = 8.0
"""peft's default, which both were trained with and which stands in no file: an adapter counts with
LORA_ALPHA / its rank."""

PIX, SEM = "pix", "sem"
"""PiSA-SR's two sets of adapters: the pixels' and the meaning's."""
SETS: dict[Kind, tuple[str, ...]] = {"osediff": ("",), "pisasr": (PIX, SEM)}
"""What stands behind the adapters' names in a file."""


SD2_UNET = UNetSizes(
    channels=(320, 640, 1280, 1280),
    num_res_blocks=2,
    depths=(1, 1, 1, 0),
    middle_depth=1,
    context_dim=1024,
    use_linear=True,
    num_heads=-1,
    num_head_channels=64,
)


@dataclass(frozen=True)
class OneStepConfig:
    """The sizes of the base. The defaults are those of Stable Diffusion 2."""

    unet: UNetSizes = SD2_UNET
    vae: VAESizes = field(default_factory=VAESizes)


SD2 = OneStepConfig()
