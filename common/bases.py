"""Base checkpoints that several methods stand on."""

from __future__ import annotations

from .method import WeightFile

HF = "https://huggingface.co"
RAIL, RAIL_PP = "CreativeML Open RAIL-M", "CreativeML Open RAIL++-M"

SD15 = WeightFile(
    "v1-5-pruned-emaonly-fp16.safetensors",
    f"{HF}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    "checkpoints",
    2_100_000_000,
    RAIL,
)
SD21 = WeightFile(
    "v2-1_512-ema-pruned.safetensors",
    f"{HF}/stabilityai/stable-diffusion-2-1-base/resolve/main/v2-1_512-ema-pruned.safetensors",
    "checkpoints",
    5_200_000_000,
    RAIL_PP,
)
