"""The words PASD's authors restore with."""

from __future__ import annotations

from ..common.prompts import CLEAN_WORDS, DEMO_NEGATIVE, DEMO_QUALITY, QUALITY, Part, PromptStyle

ORDER: tuple[Part, ...] = ("caption", "prompt", "classes", "objects", "tags")
"""A caption before the user's words, classes and objects after them."""

PROMPTS = {
    "pasd": PromptStyle(
        added=QUALITY,
        negative="blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed",
        order=ORDER,
        caption_words=CLEAN_WORDS,
    ),
    "pasd_gradio": PromptStyle(added=DEMO_QUALITY, negative=DEMO_NEGATIVE, order=ORDER),
    "pasd_sdxl": PromptStyle(
        added=f"photorealistic, {QUALITY}",
        negative="blurry, dirty, messy, frames, deformed, dotted, noise, raster lines, unclear, "
        "lowres, over-smoothed, painting, ai generated",
        order=ORDER,
        caption_words=(*CLEAN_WORDS, ("painting", "photo")),
    ),
    "pasd_colorization": PromptStyle(
        negative="b&w, color bleeding",
        order=ORDER,
        caption_words=(*CLEAN_WORDS, ("black and white", "color")),
    ),
}
