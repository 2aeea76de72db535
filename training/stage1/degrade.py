"""Random degradations for training: blur, resize, noise and real JPEG, and a share of none at all.

Every function takes and returns HWC float32 in the 8-bit range 0..255, not rounded unless said.
The recipe follows the practical degradation models of BSRGAN (Zhang et al. 2021) and Real-ESRGAN
(Wang et al. 2021) at moderate strength and without enlarging.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy.ndimage import convolve1d, gaussian_filter, gaussian_filter1d

Array = np.ndarray
Rng = np.random.Generator

MARGIN = 16  # pixels around a training patch: one JPEG block with halved color, and blur's reach
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
RESAMPLING = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)
MODES = ("clean", "nearly clean", "noise", "jpeg", "mixed")
SHARES = (0.10, 0.08, 0.08, 0.28, 0.46)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number whose logarithm is uniform between the two."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def quantize(image: Array) -> Array:
    """To uint8, rounded and clipped as any image file is."""
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def add_noise(rng: Rng, image: Array, sigma: float) -> Array:
    """Noise of about `sigma`: gray or colored, Gaussian or signal dependent, white or a bit soft."""
    height, width, _ = image.shape
    shared = rng.random() < 0.25
    noise = rng.standard_normal((height, width, 1 if shared else 3), dtype=np.float32)
    if not shared and rng.random() < 0.3:  # between gray and independent channels
        mean = noise.mean(2, keepdims=True)
        noise = noise + rng.uniform(0, 1) * (np.sqrt(3.0) - 1) * mean
    if rng.random() < 0.2:  # demosaicing and in-camera filters leave a grain wider than one pixel
        noise = gaussian_filter(noise, (*rng.uniform(0.3, 0.9, 1).repeat(2), 0))
        noise = noise / (noise.std() + 1e-6)
    elif not shared and rng.random() < 0.1:  # color blotches
        noise = gaussian_filter1d(gaussian_filter1d(noise, 1.0, 0), 1.0, 1)
        noise = noise / (noise.std() + 1e-6)
        noise = noise - 0.7 * noise.mean(2, keepdims=True)
    if rng.random() < 0.35:  # photon noise: its variance grows with the signal
        base = rng.uniform(0.0, 0.5)
        level = np.clip(image if not shared else image @ LUMA[:, None], 0, 255) / 128
        noise = noise * np.sqrt(base + (1 - base) * level)
    return image + sigma * noise


def add_grain(rng: Rng, image: Array, strength: float) -> Array:
    """Fine texture of the thing itself, such as brick, plaster or film: gray, now and then tinted."""
    height, width, _ = image.shape
    grain = rng.standard_normal((height, width, 1), dtype=np.float32)
    if rng.random() < 0.6:
        width_of_grain = rng.uniform(0.3, 0.9)
        grain = gaussian_filter(grain, (width_of_grain, width_of_grain, 0))
        grain = grain / (grain.std() + 1e-6)
    if rng.random() < 0.5:  # rougher here than there
        rough = gaussian_filter(
            rng.standard_normal((height, width, 1), dtype=np.float32), (12, 12, 0)
        )
        grain = grain * np.clip(1 + rough / (rough.std() + 1e-6), 0, 2)
    tint = np.ones(3) if rng.random() < 0.7 else np.exp(rng.normal(0, 0.3, 3))
    return image + strength * grain * tint.astype(np.float32)


def add_blur(rng: Rng, image: Array, strength: float) -> Array:
    """Gaussian blur of about `strength` pixels: round, oblong, or a small box (defocus, motion)."""
    if rng.random() < 0.7:
        return gaussian_filter(image, (strength, strength, 0), truncate=3.0)
    if rng.random() < 0.6:
        other = strength * rng.uniform(0.2, 1.0)
        pair = (strength, other) if rng.random() < 0.5 else (other, strength)
        return gaussian_filter(image, (*pair, 0), truncate=3.0)
    edge = min(0.87 * strength, 1.0)
    kernel = np.array([edge, 1.0, edge], np.float32) / (1 + 2 * edge)
    return convolve1d(convolve1d(image, kernel, axis=0), kernel, axis=1)


def resize(image: Array, height: int, width: int, method: Image.Resampling) -> Array:
    """Resizes in 8 bits as image programs do."""
    picture = Image.fromarray(quantize(image)).resize((width, height), method)
    return np.asarray(picture, np.float32)


def shrink_and_back(rng: Rng, image: Array, scale: float) -> tuple[Array, tuple[int, int]]:
    """Shrinks by `scale`. Returns the small image and the size to go back to."""
    height, width, _ = image.shape
    small = (max(8, round(height * scale)), max(8, round(width * scale)))
    method = RESAMPLING[int(rng.choice(4, p=[0.25, 0.4, 0.2, 0.15]))]
    return resize(image, *small, method), (height, width)


def add_jpeg(rng: Rng, image: Array, quality: int) -> Array:
    """Writes and reads a real JPEG, with or without halved color."""
    picture = Image.fromarray(quantize(image))
    with io.BytesIO() as file:
        sampling = 2 if rng.random() < 0.7 else 0  # Pillow: 2 is 4:2:0, 0 is 4:4:4
        picture.save(file, "JPEG", quality=int(quality), subsampling=sampling)
        file.seek(0)
        return np.asarray(Image.open(file).convert("RGB"), np.float32)


def mixed(rng: Rng, image: Array) -> Array:
    """Blur, shrink, noise, JPEG and back to size, each most of the time."""
    if rng.random() < 0.8:
        image = add_blur(rng, image, rng.uniform(0.2, 1.4))
    back = None
    if rng.random() < 0.85:
        image, back = shrink_and_back(rng, image, rng.uniform(0.5, 0.95))
        if rng.random() < 0.25:  # shown enlarged before it was shot or saved
            image, back = resize(image, *back, RESAMPLING[int(rng.integers(1, 3))]), None
    if rng.random() < 0.92:
        image = add_noise(rng, image, rng.uniform(1.0, 20.0))
    if rng.random() < 0.85:
        image = add_jpeg(rng, image, int(rng.integers(35, 93)))
    if back is not None:
        image = resize(image, *back, RESAMPLING[int(rng.choice(3, p=[0.2, 0.6, 0.2]))])
        if rng.random() < 0.25:
            image = add_jpeg(rng, image, int(rng.integers(60, 98)))
    return image


def degrade(rng: Rng, image: Array, mode: str) -> Array:
    """Applies one of MODES. HWC uint8 or float 0..255 in, uint8 out."""
    image = image.astype(np.float32)
    if mode == "nearly clean":
        pick = rng.random()
        if pick < 0.4:
            image = add_noise(rng, image, rng.uniform(0.3, 3.5))
        elif pick < 0.8:
            image = add_jpeg(rng, image, int(rng.integers(85, 100)))
        else:
            image = add_blur(rng, image, rng.uniform(0.2, 0.4))
    elif mode == "noise":
        image = add_noise(rng, image, log_uniform(rng, 3.0, 40.0))
    elif mode == "jpeg":
        image = add_jpeg(rng, image, int(rng.integers(20, 80)))
    elif mode == "mixed":
        image = mixed(rng, image)
    elif mode != "clean":
        raise ValueError(f"Unknown degradation {mode!r}: choose one of {', '.join(MODES)}.")
    return quantize(image)


def training_pair(
    rng: Rng, image: Array, patch: int, mode: str | None = None
) -> tuple[Array, Array]:
    """A random patch of a clean picture, degraded and clean, both patch x patch x 3 uint8.

    image: HWC uint8, at least patch + MARGIN on both sides. A larger area is degraded and then cut,
    so that the patch has no borders of its own and the JPEG grid lies anywhere. In a share of the
    pairs the clean side keeps a fine grain: weak noise is part of a photo and must survive.
    """
    side = patch + MARGIN
    top = int(rng.integers(0, image.shape[0] - side + 1))
    left = int(rng.integers(0, image.shape[1] - side + 1))
    area = image[top : top + side, left : left + side]
    area = np.rot90(area, int(rng.integers(4)))
    if rng.random() < 0.5:
        area = area[:, ::-1]
    area = area.astype(np.float32)
    if rng.random() < 0.5:  # other exposure and white balance
        gain = rng.uniform(0.7, 1.2) * np.exp(rng.normal(0, 0.06, 3))
        area = (area - 128) * gain.astype(np.float32) + 128 + rng.uniform(-25, 25)
    if mode is None:
        mode = str(rng.choice(MODES, p=SHARES))
    if rng.random() < 0.4:
        area = add_grain(rng, area, rng.uniform(0.3, 5.0))
    clean = quantize(area)
    bad = degrade(rng, clean, mode)
    y, x = (int(v) for v in rng.integers(0, MARGIN + 1, 2))
    return bad[y : y + patch, x : x + patch].copy(), clean[y : y + patch, x : x + patch].copy()
