"""Random degradations for training: blur, resize, noise and real JPEG, and a share of none at all.

Every function takes and returns HWC float32 in the 8-bit range 0..255, not rounded unless said.
The recipe follows the practical degradation models of BSRGAN (Zhang et al. 2021) and Real-ESRGAN
(Wang et al. 2021) at moderate strength; a picture always comes back at its own size.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .blur import lens_blur
from .noise import add_camera_noise, add_grain, add_noise, add_texture

Array = np.ndarray
Rng = np.random.Generator

MARGIN = 32  # pixels around a training patch: two JPEG blocks with halved color, and blur's reach
RESAMPLING = (
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
)
MODES = ("clean", "nearly clean", "noise", "jpeg", "blur", "resampled", "mixed")
SHARES = (0.06, 0.05, 0.15, 0.23, 0.13, 0.04, 0.34)
MIXED_LEFT_SOFT = 0.2
"""How often only noise and JPEG are to go of the mixed kind."""
FLAT_SHARE = 0.06
TEXTURE_SHARE = 0.35
"""Of the pairs that are not flat: a part is rough, which computed scenes are too seldom."""
SOFT_SHARE = 0.22
SOFT_SHARES = (0.36, 0.08, 0.1, 0.24, 0.08, 0.02, 0.12)
"""Of the kinds, for soft pictures that are right: hardly ever blurred further, or the network would
learn to sharpen every soft photo; never, and it would sharpen a blurred one beyond what it was."""
GRAIN_ON_SOFT = 0.6
"""How often a soft picture has a grain finer than its blur, by which it can be known."""


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number whose logarithm is uniform between the two."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def quantize(image: Array) -> Array:
    """To uint8, rounded and clipped as any image file is."""
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def resize(image: Array, height: int, width: int, method: Image.Resampling) -> Array:
    """Resizes in 8 bits as image programs do."""
    picture = Image.fromarray(quantize(image)).resize((width, height), method)
    return np.asarray(picture, np.float32)


def shrink(rng: Rng, image: Array, scale: float) -> Array:
    """Shrinks by `scale` below 1 with a random filter."""
    height, width, _ = image.shape
    small = (max(8, round(height * scale)), max(8, round(width * scale)))
    return resize(image, *small, RESAMPLING[int(rng.choice(4, p=[0.2, 0.45, 0.2, 0.15]))])


def enlarge(rng: Rng, image: Array, height: int, width: int) -> Array:
    """Back to a size, as viewers and upscalers do: mostly bicubic."""
    return resize(image, height, width, RESAMPLING[int(rng.choice(3, p=[0.15, 0.7, 0.15]))])


def add_jpeg(rng: Rng, image: Array, quality: int) -> Array:
    """Writes and reads a real JPEG, with or without halved color."""
    picture = Image.fromarray(quantize(image))
    with io.BytesIO() as file:
        sampling = 2 if rng.random() < 0.7 else 0  # Pillow: 2 is 4:2:0, 0 is 4:4:4
        picture.save(file, "JPEG", quality=int(quality), subsampling=sampling)
        file.seek(0)
        return np.asarray(Image.open(file).convert("RGB"), np.float32)


def jpeg_again(rng: Rng, image: Array, quality: int) -> Array:
    """JPEG of a quality after an earlier JPEG whose grid lies elsewhere, as in cut or shared pictures."""
    y, x = (int(v) for v in rng.integers(0, 8, 2))
    padded = np.pad(image, ((y, 0), (x, 0), (0, 0)), mode="reflect")
    earlier = add_jpeg(rng, padded, int(rng.integers(30, 96)))[y:, x:]
    return add_jpeg(rng, earlier, quality)


def any_noise(rng: Rng, image: Array, sigma: float) -> Array:
    """Noise of about `sigma`, a third of it a camera's after demosaicing."""
    return (add_camera_noise if rng.random() < 0.33 else add_noise)(rng, image, sigma)


def light_traces(rng: Rng, image: Array) -> Array:
    """What hardly a file is without: weak noise, a good JPEG, both or, mostly, none."""
    if rng.random() < 0.25:
        image = any_noise(rng, image, rng.uniform(0.3, 3.0))
    if rng.random() < 0.25:
        image = add_jpeg(rng, image, int(rng.integers(75, 100)))
    return image


def resampled(rng: Rng, image: Array) -> Array:
    """Shrunk to a half or a quarter, or anything between, and enlarged again."""
    height, width, _ = image.shape
    pick = rng.random()
    scale = 1 / 2 if pick < 0.3 else 1 / 4 if pick < 0.55 else 1 / rng.uniform(1.6, 4)
    return enlarge(rng, light_traces(rng, shrink(rng, image, scale)), height, width)


def mixed(rng: Rng, image: Array, faults: bool = True) -> Array:
    """Blur, shrink, noise, JPEG and back to size, each most of the time. faults: else without noise
    and JPEG."""
    height, width, _ = image.shape
    if rng.random() < 0.8:
        image = lens_blur(rng, image, rng.uniform(0.2, 1.8))
    back = False
    if rng.random() < 0.85:
        image, back = shrink(rng, image, 1 / rng.uniform(1.05, 2.5)), True
        if rng.random() < 0.25:  # shown enlarged before it was shot or saved
            image, back = enlarge(rng, image, height, width), False
    if faults and rng.random() < 0.92:
        image = any_noise(rng, image, log_uniform(rng, 2.5, 20.0))
    if faults and rng.random() < 0.85:
        save = jpeg_again if rng.random() < 0.2 else add_jpeg
        image = save(rng, image, int(rng.integers(35, 93)))
    if back:
        image = enlarge(rng, image, height, width)
        if faults and rng.random() < 0.25:
            image = add_jpeg(rng, image, int(rng.integers(60, 98)))
    return image


def degrade(rng: Rng, image: Array, mode: str) -> Array:
    """Applies one of MODES. HWC uint8 or float 0..255 in, uint8 out."""
    image = image.astype(np.float32)
    if mode == "nearly clean":
        pick = rng.random()
        if pick < 0.4:
            image = any_noise(rng, image, rng.uniform(0.3, 3.5))
        elif pick < 0.8:
            image = add_jpeg(rng, image, int(rng.integers(85, 100)))
        else:
            image = lens_blur(rng, image, rng.uniform(0.2, 0.4))
    elif mode == "noise":
        image = any_noise(rng, image, log_uniform(rng, 4.0, 40.0))
    elif mode == "jpeg":
        save = jpeg_again if rng.random() < 0.2 else add_jpeg
        image = save(rng, image, int(rng.integers(20, 85)))
    elif mode == "blur":
        image = lens_blur(rng, image, rng.uniform(0.8, 2.5))
        if rng.random() < 0.1:
            image = add_jpeg(rng, image, int(rng.integers(85, 100)))
    elif mode == "resampled":
        image = resampled(rng, image)
    elif mode == "mixed":
        image = mixed(rng, image)
    elif mode != "clean":
        raise ValueError(f"Unknown degradation {mode!r}: choose one of {', '.join(MODES)}.")
    return quantize(image)


def turned(rng: Rng, area: Array) -> Array:
    """By quarters, and mirrored half the time."""
    area = np.rot90(area, int(rng.integers(4)))
    return area[:, ::-1] if rng.random() < 0.5 else area


def exposed(rng: Rng, area: Array) -> Array:
    """Half the time in another exposure and white balance. area: float32."""
    if rng.random() >= 0.5:
        return area
    gain = rng.uniform(0.7, 1.2) * np.exp(rng.normal(0, 0.06, 3))
    return (area - 128) * gain.astype(np.float32) + 128 + rng.uniform(-25, 25)


def flat_area(rng: Rng, side: int) -> Array:
    """One even color, most often white, black or a gray, or two that meet at a straight edge."""
    colors = []
    for _ in range(2):
        pick = rng.random()
        gray = 255.0 if pick < 0.25 else 0.0 if pick < 0.4 else rng.uniform(0, 255)
        colors.append(rng.uniform(0, 255, 3) if pick > 0.7 else np.full(3, gray))
    area = np.tile(np.array(colors[0], np.float32), (side, side, 1))
    if rng.random() < 0.4:
        area[:, int(rng.integers(0, side)) :] = colors[1]
    return area


def training_pair(
    rng: Rng, image: Array, patch: int, mode: str | None = None
) -> tuple[Array, Array]:
    """A random patch of a clean picture, degraded and clean, both patch x patch x 3 uint8.

    image: HWC uint8, at least patch + MARGIN on both sides. A larger area is degraded and then cut,
    so that the patch has no borders of its own and the JPEG grid lies anywhere. In a share of the
    pairs the clean side keeps a fine grain: weak noise is part of a photo and must survive. A few
    are flat areas, which pictures of textures lack: sky, walls and paper must stay as they are. Some
    are rough in a part, and some soft and yet right, mostly under a grain finer than their blur.
    """
    side = patch + MARGIN
    top = int(rng.integers(0, image.shape[0] - side + 1))
    left = int(rng.integers(0, image.shape[1] - side + 1))
    area = image[top : top + side, left : left + side].astype(np.float32)
    flat = rng.random() < FLAT_SHARE
    if flat:
        area = flat_area(rng, side)
    area = turned(rng, area)
    if not flat:
        if rng.random() < TEXTURE_SHARE:
            area = add_texture(rng, area, log_uniform(rng, 2.0, 25.0))
        area = exposed(rng, area)
    soft = mode is None and not flat and rng.random() < SOFT_SHARE
    if mode is None:
        mode = str(rng.choice(MODES, p=SOFT_SHARES if soft else SHARES))
    if soft:
        area = lens_blur(rng, area, rng.uniform(0.5, 1.8))
        if rng.random() < GRAIN_ON_SOFT:
            area = add_grain(rng, area, rng.uniform(0.3, 2.5))
    elif not flat and rng.random() < 0.4:
        area = add_grain(rng, area, rng.uniform(0.3, 5.0))
    clean = quantize(area)
    seed = int(rng.integers(2**63))
    bad = degrade(np.random.default_rng(seed), clean, mode)
    if mode == "mixed" and rng.random() < MIXED_LEFT_SOFT:
        clean = quantize(mixed(np.random.default_rng(seed), clean.astype(np.float32), faults=False))
    y, x = (int(v) for v in rng.integers(0, MARGIN + 1, 2))
    return bad[y : y + patch, x : x + patch].copy(), clean[y : y + patch, x : x + patch].copy()
