"""Draws a workflow's thumbnail as a diagram, where there is no picture to show yet.

python workflows/thumbnails.py writes the missing ones of `DIAGRAMS`; Pillow is all it needs.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).parent
SIDE = 512
COLORS = ("#3f789e", "#5b8c5a", "#6b6a9e", "#a1309b")

DIAGRAMS: dict[str, tuple[str, str, tuple[str, str, str, str]]] = {
    "diffbir_upscale_4k_tiled": (
        "DiffBIR v2",
        "To 4K in tiles",
        ("photo", "BSRNet x4, in tiles", "tiles of 512, blended", "4096 pixels"),
    ),
    "pasd_upscale_4k_tiled": (
        "PASD",
        "To 4K in tiles",
        ("photo", "SD 1.5 + pixel attention", "tiles of 768, blended", "4096 pixels"),
    ),
    "seesr_upscale_4k_tiled": (
        "SeeSR",
        "To 4K in tiles",
        ("photo", "tags for every tile", "tiles of 768, blended", "4096 pixels"),
    ),
}
"""Workflow: title, what it does, and its four stages."""


def diagram(title: str, subtitle: str, stages: tuple[str, ...]) -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), "#22242f")
    draw = ImageDraw.Draw(picture)
    draw.text((33, 38), title, "#ffffff", ImageFont.load_default(40))
    draw.text((33, 96), subtitle, "#8ec5ff", ImageFont.load_default(28))
    for number, (stage, color) in enumerate(zip(stages, COLORS, strict=True)):
        top = 160 + 84 * number
        draw.rounded_rectangle((32, top, SIDE - 32, top + 60), 14, color)
        draw.text((57, top + 15), stage, "#ffffff", ImageFont.load_default(25))
        if number:
            draw.polygon([(245, top - 21), (267, top - 21), (256, top - 6)], "#cccccc")
    return picture


def main() -> None:
    for name, texts in DIAGRAMS.items():
        path = FOLDER / f"{name}.jpg"
        if not path.exists():
            diagram(*texts).save(path, quality=85)


if __name__ == "__main__":
    main()
