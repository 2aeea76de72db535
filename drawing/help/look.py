"""What the pictures of the help pages look like: their width, letters and colors."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFont

from ...tools.comfyui.find import PACK_ROOT
from ...tools.panel import Labeled, panel

PHOTO, REFERENCE = (
    PACK_ROOT / "scripts" / "photo" / f"{name}.jpg" for name in ("degraded", "reference")
)
WIDTH = 640
TEXT = 24
"""Size of letters: the help panel is about half as wide as a picture."""
CAST = (120, 185, 255)
"""A cold light, as factors of 255."""
FRAME, FAINT = (70, 70, 70), (150, 150, 150)
COLORS = (
    (92, 184, 255),
    (255, 176, 66),
    (120, 220, 130),
    (255, 110, 130),
    (200, 150, 255),
    (230, 225, 110),
)

Crop = tuple[int, int, int, int]


def font(size: int) -> Any:
    """Pillow's own font."""
    return ImageFont.load_default(size)


def sheet(panels: list[Labeled], columns: int, crop: Crop | None = None) -> Image.Image:
    """Pictures in columns, each under its label; `crop` shows a part of all."""
    shown = [(label, picture.crop(crop) if crop else picture) for label, picture in panels]
    rows = [shown[first : first + columns] for first in range(0, len(shown), columns)]
    return panel(rows, WIDTH, TEXT)


def opened(path: Any) -> Image.Image:
    return Image.open(path).convert("RGB")


def tinted(picture: Image.Image, cast: tuple[int, int, int] = CAST) -> Image.Image:
    """Under a color cast."""
    return Image.fromarray((np.asarray(picture) * (np.array(cast) / 255)).astype(np.uint8))
