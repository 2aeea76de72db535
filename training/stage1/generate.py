"""Synthetic training images with the statistics of photographs, made from a seed alone.

The base is the dead leaves model (Lee, Mumford, Huang 2001): opaque shapes with power-law sizes that
occlude each other, whose image statistics are close to those of natural scenes. Flat leaves teach a
network to smear texture, so every leaf here is cut from one of the `materials`. Light, shadows, depth
of field and a camera's softness go over the whole scene. All is computed: no picture, no data set.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from .materials import (
    draw_strokes,
    from_image,
    material,
    random_color,
    smooth_field,
    spectral_field,
    to_image,
    write_text,
)
from .noise import LUMA

Array = np.ndarray
Rng = np.random.Generator


def leaf_mask(rng: Rng, height: int, width: int) -> Array:
    """Coverage of a random shape that fills its box, antialiased four times. HW in [0, 1]."""
    over = 4 if height * width < 160 * 160 else 2
    picture = Image.new("L", (width * over, height * over))
    draw = ImageDraw.Draw(picture)
    kind = rng.integers(5)
    extent = np.array([width, height]) * over
    if kind == 0:
        draw.ellipse((0, 0, *(int(v) - 1 for v in extent)), fill=255)
    elif kind == 1:  # a turned rectangle or beam
        angle, slim = rng.uniform(0, np.pi), rng.uniform(0.1, 1.0)
        axis = np.array([np.cos(angle), np.sin(angle)])
        side = np.array([-axis[1], axis[0]]) * slim
        corners = [axis + side, axis - side, -axis - side, side - axis]
        points = [(p * 0.5 / np.abs(corners).max() + 0.5) * extent for p in corners]
        draw.polygon([(float(p[0]), float(p[1])) for p in points], fill=255)
    else:  # polygon or a wavy outline
        count = int(rng.integers(3, 8)) if kind == 2 else 64
        angles = (
            np.sort(rng.uniform(0, 2 * np.pi, count))
            if kind == 2
            else np.linspace(0, 2 * np.pi, count, endpoint=False)
        )
        radii = rng.uniform(0.7, 1.0, count)
        if kind != 2:
            radii = np.full(count, 1.0)
            for order in range(2, 9):
                strength = rng.normal(0, 0.9 / order**1.3)
                radii = radii + 0.4 * strength * np.cos(order * angles + rng.uniform(0, 6.3))
            radii = np.maximum(radii, 0.05) / radii.max()
        shape = np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]
        points = (shape * 0.5 + 0.5) * extent
        draw.polygon([(float(p[0]), float(p[1])) for p in points], fill=255)
    return from_image(picture.reduce(over))


def paint_leaf(rng: Rng, canvas: Array, fill: Array, radius: float) -> None:
    """Puts one leaf of `fill` on `canvas` in place: own tone, shading, sometimes a soft edge."""
    size = canvas.shape[0]
    height = int(np.clip(2 * radius * rng.uniform(0.5, 1.3), 3, 1.5 * size))
    width = int(np.clip(2 * radius * rng.uniform(0.5, 1.3), 3, 1.5 * size))
    top = int(rng.integers(-height + 1, size))
    left = int(rng.integers(-width + 1, size))
    y0, y1, x0, x1 = max(top, 0), min(top + height, size), max(left, 0), min(left + width, size)
    mask = leaf_mask(rng, height, width)
    if rng.random() < 0.25:  # out of focus
        soft = np.exp(rng.uniform(np.log(0.5), np.log(6)))
        mask = gaussian_filter(mask, min(soft, radius / 3))
    mask = mask[y0 - top : y1 - top, x0 - left : x1 - left, None]
    high, wide = y1 - y0, x1 - x0
    dy, dx = (int(rng.integers(0, size - n + 1)) for n in (high, wide))
    patch = fill[dy : dy + high, dx : dx + wide]
    if rng.random() < 0.5:  # the same material in another color and strength
        mean = patch.mean((0, 1))
        patch = random_color(rng) + (patch - mean) * rng.uniform(0.2, 1.2)
    if rng.random() < 0.6:  # shading across the leaf
        slope = rng.normal(0, 0.25, 2)
        ramp = slope[0] * np.linspace(-1, 1, high)[:, None] + slope[1] * np.linspace(-1, 1, wide)
        patch = patch * np.clip(1 + ramp[..., None], 0.2, 1.8)
    if rng.random() < 0.15:  # a rim
        rim = np.clip(4 * mask * (1 - mask), 0, 1)
        patch = patch * (1 - rng.uniform(0, 0.8) * rim)
    if rng.random() < 0.2:  # a cast shadow beside the leaf
        shadow = gaussian_filter(mask[..., 0], rng.uniform(0.5, 4))[..., None]
        canvas[y0:y1, x0:x1] *= 1 - rng.uniform(0.1, 0.6) * shadow
    canvas[y0:y1, x0:x1] = canvas[y0:y1, x0:x1] * (1 - mask) + patch * mask


def dead_leaves(rng: Rng, size: int) -> Array:
    """Occluding textured leaves, radii with density r^-3 so that every scale covers alike. HWC."""
    bank = [material(rng, size) for _ in range(int(rng.integers(3, 6)))]
    canvas = bank[0].copy()
    low = np.exp(rng.uniform(np.log(2), np.log(14)))
    high = rng.uniform(0.2, 0.6) * size
    cover = rng.uniform(0.5, 2.5) * size * size  # leaf area to drop; about a third is lost outside
    u = rng.random(600)
    radii = 1 / np.sqrt(u / low**2 + (1 - u) / high**2)  # inverse of the r^-3 law's distribution
    radii = radii[np.cumsum(2 * radii**2) - 2 * radii**2 < cover]
    if rng.random() < 0.5:  # large things first, small details stay visible
        radii = np.sort(radii)[::-1]
    for radius in radii:
        paint_leaf(rng, canvas, bank[int(rng.integers(len(bank)))], float(radius))
    return canvas


def bokeh(rng: Rng, size: int) -> Array:
    """A sharp foreground before a blurred scene, with stars or lights now and then. HWC."""
    back = dead_leaves(rng, size)
    sigma = np.exp(rng.uniform(np.log(1.5), np.log(12)))
    back = gaussian_filter(back, (sigma, sigma, 0))
    front = material(rng, size)
    for _ in range(int(rng.integers(0, 12))):
        paint_leaf(rng, back, front, float(np.exp(rng.uniform(np.log(6), np.log(120)))))
    if rng.random() < 0.3:
        dark = rng.uniform(0, 0.4)
        points = np.zeros((size, size), np.float32)
        spots = int(np.exp(rng.uniform(np.log(5), np.log(400))))
        where = rng.integers(0, size, (2, spots))
        points[where[0], where[1]] = rng.pareto(1.5, spots) + 0.3
        glow = gaussian_filter(points, rng.uniform(0.6, 2.0)) * rng.uniform(3, 12)
        tint = 0.6 + 0.4 * random_color(rng)
        back = back * dark + np.minimum(glow, 1.2)[..., None] * tint
    return back


def light(rng: Rng, image: Array) -> Array:
    """Uneven illumination, soft or hard shadows, vignette. HWC -> HWC."""
    size = image.shape[0]
    gain = np.ones((size, size), np.float32)
    if rng.random() < 0.5:
        gain = gain * np.exp(
            rng.uniform(0, 0.35) * smooth_field(rng, size, size, int(rng.integers(1, 4)))
        )
    if rng.random() < 0.25:
        edge = spectral_field(rng, size, size, rng.uniform(1.7, 2.5)) + rng.normal(0, 0.7)
        soft = np.exp(rng.uniform(np.log(0.05), np.log(1.0)))
        gain = gain * (1 - rng.uniform(0.2, 0.7) / (1 + np.exp(-np.clip(edge / soft, -30, 30))))
    return image * gain[..., None]


def develop(rng: Rng, image: Array) -> Array:
    """A camera's softness, exposure, tone curve, white balance and saturation. HWC -> uint8 HWC."""
    blur = rng.choice([0.0, rng.uniform(0.25, 0.5), rng.uniform(0.5, 1.0)], p=[0.4, 0.4, 0.2])
    if blur > 0:
        image = gaussian_filter(image, (blur, blur, 0))
    image = np.maximum(image, 0)
    image = image * np.exp(rng.normal(0, 0.2)) * np.exp(rng.normal(0, 0.05, 3))
    gray = (image @ LUMA)[..., None]
    image = gray + (image - gray) * rng.uniform(0.4, 1.4)
    if rng.random() < 0.14:
        image = np.repeat(gray, 3, axis=2)
    low, high = np.percentile(image, (1, 99))
    if rng.random() < 0.5:  # auto levels, part of the way
        share = rng.uniform(0.1, 0.9)
        image = (1 - share) * image + share * (image - low) / max(high - low, 0.15)
    image = np.clip(image, 0, 1) ** np.exp(rng.normal(0, 0.25))
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def generate(seed: int, size: int = 320) -> Array:
    """The picture of a seed: size x size x 3, uint8 RGB, the same for the same seed."""
    rng = np.random.default_rng(seed)
    kind = rng.random()
    if kind < 0.52:
        image = dead_leaves(rng, size)
    elif kind < 0.62:
        image = bokeh(rng, size)
    elif kind < 0.67:  # plain 1/f color noise with the slope of natural images
        slope = rng.uniform(0.9, 1.4)
        luma, *chroma = (spectral_field(rng, size, size, slope + 0.2 * (c > 0)) for c in range(3))
        tint = np.stack([chroma[0], -0.4 * chroma[0] - 0.3 * chroma[1], chroma[1]], -1)
        image = random_color(rng) + rng.uniform(0.06, 0.2) * (luma[..., None] + 0.12 * tint)
    else:
        image = material(rng, size)
        if rng.random() < 0.5:
            other = material(rng, size)
            for _ in range(int(rng.integers(1, 6))):
                paint_leaf(rng, image, other, float(rng.uniform(0.05, 0.5) * size))
    if rng.random() < 0.15:
        picture = to_image(image).resize((2 * size, 2 * size), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            draw_strokes(rng, picture, 2, int(np.exp(rng.uniform(np.log(2), np.log(120)))))
        else:
            write_text(rng, picture, 2, lines=int(rng.integers(1, 4)))
        image = from_image(picture.reduce(2))
    return develop(rng, light(rng, image.astype(np.float32)))
