"""What lenses and shaking hands do to a sharp picture: Gaussian softness, defocus disks, slight motion.

Pictures are HWC float32 of any range.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve, gaussian_filter

Array = np.ndarray
Rng = np.random.Generator


def disk(radius: float) -> Array:
    """The image of a point out of focus: an even disk, antialiased. Odd side, sum 1.

    radius: pixels. Below half a pixel it is a single point.
    """
    reach, over = int(np.ceil(radius)), 8
    side = 2 * reach + 1
    at = (np.arange(side * over) + 0.5) / over - side / 2
    inside = (np.hypot(at[:, None], at) <= max(radius, 0.5)).astype(np.float32)
    kernel = inside.reshape(side, over, side, over).mean((1, 3))
    return kernel / kernel.sum()


def streak(length: float, angle: float) -> Array:
    """The path of a point while the shutter is open: a straight line, antialiased. Odd side, sum 1.

    length: pixels. angle: radians, 0 along the rows.
    """
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    along = np.linspace(-length / 2, length / 2, 8 * int(np.ceil(length)) + 1)
    y, x = reach + along * np.sin(angle), reach + along * np.cos(angle)
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            share = (1 - np.abs(y - top - dy)) * (1 - np.abs(x - left - dx))
            np.add.at(kernel, (top + dy, left + dx), share)
    return kernel / kernel.sum()


def apply_kernel(image: Array, kernel: Array) -> Array:
    """Convolves every channel; the edge is mirrored."""
    return convolve(image, kernel[..., None].astype(np.float32), mode="reflect")


def gaussian(rng: Rng, image: Array, sigma: float) -> Array:
    """Gaussian blur of `sigma` pixels, in a third of the cases weaker along one side."""
    other = sigma * rng.uniform(0.3, 1.0) if rng.random() < 0.33 else sigma
    pair = (sigma, other) if rng.random() < 0.5 else (other, sigma)
    return gaussian_filter(image, (*pair, 0), truncate=3.0)


def lens_blur(rng: Rng, image: Array, strength: float) -> Array:
    """Blur with about the spread of a Gaussian of `strength` pixels, of a random kind.

    The disk of radius 2 sigma and the line of length 3.46 sigma have the Gaussian's variance; the
    line is kept to 1.5 times that, since it blurs along one direction only.
    """
    pick = rng.random()
    if pick < 0.7:
        return gaussian(rng, image, strength)
    if pick < 0.9:
        return apply_kernel(image, disk(2 * strength))
    return apply_kernel(image, streak(min(5.2 * strength, 8.0), rng.uniform(0, np.pi)))
