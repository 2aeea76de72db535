"""The words DiffBIR's authors restore with."""

from __future__ import annotations

from ..common.prompts import PLAIN, PromptStyle

PROMPTS = {
    "diffbir_v1": PLAIN,
    "diffbir_v2": PromptStyle(
        negative="low quality, blurry, low-resolution, noisy, unsharp, weird textures"
    ),
    "diffbir_v2.1": PromptStyle(
        added="Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera, hyper "
        "detailed photo - realistic maximum detail, 32k, Color Grading, ultra HD, extreme "
        "meticulous detailing, skin pore detailing, hyper sharpness, perfect without deformations.",
        negative="painting, oil painting, illustration, drawing, art, sketch, oil painting, "
        "cartoon, CG Style, 3D render, unreal engine, blurring, dirty, messy, worst quality, low "
        "quality, frames, watermark, signature, jpeg artifacts, deformed, lowres, over-smooth.",
    ),
}
