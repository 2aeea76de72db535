"""The texts that Restoration Prompt makes of the same words."""

from __future__ import annotations

from PIL import Image, ImageDraw

from ...tools.panel import BACK, INK
from .look import COLORS, TEXT, WIDTH, font
from .studio import Studio


def prompts(studio: Studio) -> Image.Image:
    words = {"prompt": "a cup of coffee", "tags": "cup, table, spoon"}
    whole = Image.new("RGB", (WIDTH, 1000), BACK)
    draw, y = ImageDraw.Draw(whole), 8
    for style in ("diffbir_v2", "pasd", "seesr"):
        node = studio.node("RestorationPrompt", style=style, negative_prompt="", caption="",
                           classes="", objects="", **words)  # fmt: skip
        joined = studio.node("StringConcatenate", string_a=[node, 0], string_b=[node, 1],
                             delimiter="\n")  # fmt: skip
        _, text = studio.run(text=[joined, 0])
        draw.text((8, y), style, COLORS[0], font(TEXT))
        y += 32
        for line, color, sign in zip(text.split("\n"), (COLORS[2], COLORS[3]), "+-", strict=True):
            draw.text((12, y), sign, color, font(TEXT))
            for part in wrapped(line, WIDTH - 44, draw):
                draw.text((36, y), part, INK, font(TEXT))
                y += 30
        y += 12
    return whole.crop((0, 0, WIDTH, y))


def wrapped(text: str, width: int, draw: ImageDraw.ImageDraw) -> list[str]:
    """Lines that fit."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font(TEXT)) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
