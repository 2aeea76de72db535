"""Makes the demo's photo: a real photograph and a copy degraded the way cameras and uploads do.

    .venv/bin/python scripts/photo/make.py

Run once; the two files it writes are part of the repository. The same seed gives the same files
with the same Pillow; another JPEG encoder may differ by a gray level here and there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from skimage import data

HERE = Path(__file__).resolve().parent
CROP = (64, 0, 576, 400)
SEED = 20240607
BLUR_SIGMA = 0.7
"""Gaussian, pixels: a lens that is not quite sharp."""
READ_NOISE, SHOT_NOISE = 10.0, 10.0
"""Standard deviations in gray levels: everywhere, and what light adds at mid gray."""
JPEG_QUALITY = 60


def degrade(photo: Image.Image, seed: int) -> Image.Image:
    """Blur, then noise that grows with the light (its variance is linear in the pixel)."""
    blurred = np.asarray(photo.filter(ImageFilter.GaussianBlur(BLUR_SIGMA)), np.float64)
    sigma = np.sqrt(READ_NOISE**2 + SHOT_NOISE**2 * blurred / 127.5)
    noisy = blurred + sigma * np.random.default_rng(seed).standard_normal(blurred.shape)
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def main() -> None:
    """Writes reference.jpg and degraded.jpg beside this file."""
    photo = Image.fromarray(data.coffee()).crop(CROP)
    photo.save(HERE / "reference.jpg", quality=95, subsampling=0, optimize=True)
    degrade(photo, SEED).save(HERE / "degraded.jpg", quality=JPEG_QUALITY)


if __name__ == "__main__":
    main()
