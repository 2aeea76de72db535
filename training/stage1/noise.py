"""Noise of many origins, and the grain that belongs to the thing itself.

Pictures are HWC float32 in the 8-bit range 0..255; results are not rounded or clipped.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve1d, gaussian_filter, gaussian_filter1d
from scipy.special import expit

from .materials import spectral_field

Array = np.ndarray
Rng = np.random.Generator

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def add_noise(rng: Rng, image: Array, sigma: float) -> Array:
    """Noise of about `sigma`: gray or colored, Gaussian or signal dependent, white or a bit soft."""
    height, width, _ = image.shape
    shared = rng.random() < 0.04  # in a gray photo that looks like grain
    noise = rng.standard_normal((height, width, 1 if shared else 3), dtype=np.float32)
    if not shared and rng.random() < 0.15:  # between gray and independent channels
        mean = noise.mean(2, keepdims=True)
        noise = noise + rng.uniform(0, 1) * (np.sqrt(3.0) - 1) * mean
    if rng.random() < 0.15:  # in-camera filters leave a grain wider than one pixel
        noise = gaussian_filter(noise, (*rng.uniform(0.3, 0.9, 1).repeat(2), 0))
        noise = noise / (noise.std() + 1e-6)
    elif not shared and rng.random() < 0.1:  # color blotches
        noise = gaussian_filter1d(gaussian_filter1d(noise, 1.0, 0), 1.0, 1)
        noise = noise / (noise.std() + 1e-6)
        noise = noise - 0.7 * noise.mean(2, keepdims=True)
    if rng.random() < 0.3:  # photon noise: its variance grows with the signal
        base = rng.uniform(0.0, 0.5)
        level = np.clip(image if not shared else image @ LUMA[:, None], 0, 255) / 128
        noise = noise * np.sqrt(base + (1 - base) * level)
    return image + sigma * noise


def demosaiced(noise: Array) -> Array:
    """Noise of a sensor's RGGB cells after bilinear demosaicing: wider than a pixel, colored.

    noise: HW, one number per cell. Returns HWC.
    """
    height, width = noise.shape
    row, column = np.arange(height)[:, None] % 2, np.arange(width) % 2
    cells = ((row == 0) & (column == 0), row != column, (row == 1) & (column == 1))
    tent = np.array([0.5, 1.0, 0.5], np.float32)
    channels = []
    for mask in cells:
        have = mask.astype(np.float32)
        summed, weight = (
            convolve1d(convolve1d(plane, tent, axis=0), tent, axis=1)
            for plane in (noise * have, have)
        )
        channels.append(np.where(mask, noise, summed / weight))
    return np.stack(channels, axis=-1)


def add_camera_noise(rng: Rng, image: Array, sigma: float) -> Array:
    """Photon and read noise on a sensor's cells, after demosaicing, white balance and tone curve.

    sigma: the noise of a middle gray's green. Red and blue get more by the white balance; how dark
    and bright parts compare is the share of read noise times the slope of the curve. The curve
    is taken as straight under the noise: its bend would darken what the network should not.
    """

    def amplitude(level: Array | float) -> Array:
        slope = np.maximum(level, 0.02) ** (1 / 2.2 - 1)
        return np.sqrt(read * 0.18 + (1 - read) * np.asarray(level)) * slope

    read = rng.uniform(0.05, 0.6)
    cells = demosaiced(rng.standard_normal(image.shape[:2], dtype=np.float32))
    cells = cells / cells.std()
    linear = np.clip(image / 255, 0, 1) ** 2.2
    balance = np.sqrt([rng.uniform(1.0, 2.0), 1.0, rng.uniform(1.0, 2.0)]).astype(np.float32)
    return image + sigma * balance * cells * (amplitude(linear) / amplitude(0.18))


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


def add_texture(rng: Rng, image: Array, strength: float) -> Array:
    """Rough matter, as grass, skin, plaster or tissue: a field that falls with frequency, weaker in the
    finest detail, mostly in a part of the picture. strength: its standard deviation there."""
    height, width, _ = image.shape
    field = spectral_field(rng, height, width, rng.uniform(0.0, 1.6))
    if rng.random() < 0.8:
        field = gaussian_filter(field, rng.uniform(0.3, 1.3))
    if rng.random() < 0.3:  # few dark or bright specks
        field = np.sign(field) * np.abs(field) ** rng.uniform(1.2, 2.0)
    field = field / (field.std() + 1e-6)
    if rng.random() < 0.75:
        where = spectral_field(rng, height, width, 2.2) + rng.normal(0, 0.7)
        field = field * expit(np.exp(rng.uniform(0.5, 3.0)) * where)
    tint = np.ones(3) if rng.random() < 0.6 else np.exp(rng.normal(0, 0.4, 3))
    return image + strength * field[..., None] * tint.astype(np.float32)
