"""Pictures laid out for comparing: rows under labels, and halves of two."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from PIL import Image, ImageDraw, ImageFont

BACK, INK = (24, 24, 24), (238, 238, 238)
Labeled = tuple[str, Image.Image]


def panel(
    rows: Sequence[Sequence[Labeled]], width: int, text: int = 17, gap: int = 6
) -> Image.Image:
    """RGB pictures as rows over the whole width, those of a row at one height, each under its label.

    width: of the whole, in pixels. text: size of the letters; a label may have several lines, and a
    row of empty ones has no room for them. gap: pixels between pictures.
    """
    laid, bottom = [], 0
    for row in rows:
        lines = max(label.count("\n") + 1 if label else 0 for label, _ in row)
        top = bottom + (6 + (text + 6) * lines if lines else 0)
        shapes = [Fraction(picture.width, picture.height) for _, picture in row]
        inner = width - gap * (len(row) - 1)
        widths = [int(inner * shape / sum(shapes)) for shape in shapes]
        height = max(1, *(round(w / shape) for w, shape in zip(widths, shapes, strict=True)))
        left = 0
        for (label, picture), w in zip(row, widths, strict=True):
            laid.append((label, (left + 4, bottom + 2), picture, (left, top), (w, height)))
            left += w + gap
        bottom = top + height + gap
    whole = Image.new("RGB", (width, bottom - gap), BACK)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(text)
    for label, at, picture, corner, size in laid:
        draw.multiline_text(at, label, INK, font)
        whole.paste(_resized(picture, size), corner)
    return whole


def _resized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    enlarged = picture.width < size[0]
    return picture.resize(size, Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS)


def halves(before: Image.Image, after: Image.Image) -> Image.Image:
    """The left half of one picture and the right half of another of its size, with a line between."""
    middle = after.width // 2
    whole = after.copy()
    whole.paste(before.crop((0, 0, middle, before.height)))
    ImageDraw.Draw(whole).line([(middle, 0), (middle, whole.height)], "white", 2)
    return whole
