"""Cropping and pasting faces, on a portrait that scikit-image brings: Eileen Collins, by NASA, public
domain."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .look import COLORS, sheet
from .runs import remove
from .studio import Studio


def astronaut() -> tuple[Image.Image, Image.Image]:
    """A small noisy portrait and a painted mask of the face."""
    from skimage import data

    clean = Image.fromarray(data.astronaut()).crop((60, 0, 400, 260))
    noise = np.random.default_rng(1).normal(0, 16, (clean.height, clean.width, 3))
    noisy = np.clip(np.asarray(clean) + noise, 0, 255).astype(np.uint8)
    mask = Image.new("RGB", clean.size)
    ImageDraw.Draw(mask).ellipse((112, 58, 214, 192), "white")
    return Image.fromarray(noisy), mask


def faces(studio: Studio, kind: str) -> Image.Image:
    photo, mask = astronaut()
    image = studio.photo(photo)
    painted = studio.node("ImageToMask", image=studio.photo(mask), channel="red")
    crop = studio.node("RestorationFaceCrop", image=image, detector="yunet", confidence=0.7,
                       mask=[painted, 0])  # fmt: skip
    better = remove(studio, [crop, 0])
    paste = studio.node("RestorationFacePaste", image=image, faces=better, info=[crop, 1],
                        feather=0.05)  # fmt: skip
    (before, after, pasted), _ = studio.run([crop, 0], better, [paste, 0])
    veil = Image.composite(Image.new("RGB", photo.size, COLORS[0]), photo,
                           mask.convert("L").point([v // 3 for v in range(256)]))  # fmt: skip
    if kind == "RestorationFaceCrop":
        return sheet([("a painted mask", veil), ("faces: 512x512", before)], 2)
    return sheet([("faces, cleaned", after), ("pasted back", pasted)], 2)
