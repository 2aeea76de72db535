"""The photographs of the light models' bench, and what is done to them: HWC uint8 in and out."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from restoration.common import metrics

Array = np.ndarray

LARGEST = 512
NAMED = ("astronaut", "chelsea", "coffee", "rocket", "camera")
OTHERS = (
    "motorcycle_left",
    "hubble_deep_field",
    "retina",
    "ihc",
    "moon",
    "coins",
    "brick",
    "grass",
    "gravel",
    "clock_motion",
)
PHOTOS = NAMED + OTHERS


def load_photo(name: str, largest: int = LARGEST) -> Array:
    """One of PHOTOS, or any file by its path: HWC uint8 RGB, its middle cut out."""
    path = _path_of(name) if name in PHOTOS else Path(name)
    photo = Image.open(path).convert("RGB")
    width, height = photo.size
    w, h = min(width, largest), min(height, largest)
    left, top = (width - w) // 2, (height - h) // 2
    return np.asarray(photo.crop((left, top, left + w, top + h)))


def _path_of(name: str) -> Path:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return next(p for p in (folder / f"{name}.png", folder / f"{name}.jpg") if p.exists())


def round8(image: Array) -> Array:
    """0..255 float to uint8, rounded and clipped."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def noisy(photo: Array, sigma: float, seed: int) -> Array:
    """Independent Gaussian noise on every channel, rounded to 8 bits."""
    rng = np.random.default_rng(seed)
    return round8(photo + rng.normal(0, sigma, photo.shape))


def jpeg(photo: Array, quality: int) -> Array:
    """A JPEG file at a quality, with Pillow's usual halved color (4:2:0)."""
    with io.BytesIO() as file:
        Image.fromarray(photo).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))


def resized(photo: Array, width: int, height: int) -> Array:
    """Antialiased bicubic, in 8 bits."""
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC))


def mixed(photo: Array, blur: float, scale: float, sigma: float, quality: int, seed: int) -> Array:
    """The chain of the restoration papers: blur, shrink, noise, JPEG, and back to the old size."""
    from scipy.ndimage import gaussian_filter

    height, width, _ = photo.shape
    soft = round8(gaussian_filter(photo.astype(np.float32), (blur, blur, 0)))
    small = resized(soft, round(width * scale), round(height * scale))
    return resized(jpeg(noisy(small, sigma, seed), quality), width, height)


def blurred(photo: Array, sigma: float) -> Array:
    """Gaussian blur, rounded to 8 bits, nothing else."""
    from scipy.ndimage import gaussian_filter

    return round8(gaussian_filter(photo.astype(np.float32), (sigma, sigma, 0)))


def enlarged(photo: Array, factor: int) -> Array:
    """A clean photo at 1/factor of its size, enlarged again: what an upscaler starts from."""
    height, width, _ = photo.shape
    return resized(resized(photo, width // factor, height // factor), width, height)


def degradations(photo: Array, name: str) -> dict[tuple[str, str], Array]:
    """All degraded versions of a photo by (kind, level). HWC uint8 in and out, fixed seeds."""
    seed = zlib.crc32(name.encode())
    return {
        ("noise", "light"): noisy(photo, 10, seed),
        ("noise", "strong"): noisy(photo, 25, seed + 1),
        ("jpeg", "light"): jpeg(photo, 50),
        ("jpeg", "strong"): jpeg(photo, 30),
        ("mixed", "light"): mixed(photo, 0.6, 0.8, 6, 75, seed + 2),
        ("mixed", "strong"): mixed(photo, 1.0, 0.6, 12, 55, seed + 3),
        ("blur", "light"): blurred(photo, 1.0),
        ("blur", "strong"): blurred(photo, 2.0),
        ("enlarged", "light"): enlarged(photo, 2),
        ("enlarged", "strong"): enlarged(photo, 4),
    }


def psnr(image: Array, reference: Array) -> float:
    """PSNR of two HWC uint8 images, dB, over all channels."""
    pair = (torch.tensor(each).movedim(-1, 0)[None] for each in (image, reference))
    return metrics.psnr(*pair, peak=255).item()
