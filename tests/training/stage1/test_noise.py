"""Noise as asked: strength, color, where it is strong."""

import numpy as np
import pytest

from restoration.training.stage1 import noise


def gray(level, size=128):
    return np.full((size, size, 3), level, np.float32)


def test_noise_has_the_asked_strength():
    for seed in range(20):
        made = noise.add_noise(np.random.default_rng(seed), gray(128), 10.0) - 128
        assert 6 < made.std() < 17


def test_demosaicing_keeps_an_even_field_and_widens_noise():
    assert np.allclose(noise.demosaiced(np.ones((20, 24), np.float32)), 1)
    cells = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    made = noise.demosaiced(cells)
    assert made.shape == (128, 128, 3)
    beside = [np.corrcoef(plane[:, :-1].ravel(), plane[:, 1:].ravel())[0, 1] for plane in made.T]
    assert min(beside) > 0.2  # white noise has 0


def test_camera_noise_has_its_strength_is_colored_and_moves_no_brightness():
    found = []
    for seed in range(12):
        made = noise.add_camera_noise(np.random.default_rng(seed), gray(118), 10.0) - 118
        found.append(made.std((0, 1)))
        assert abs(made.mean()) < 0.6
    red, green, blue = np.mean(found, axis=0)
    assert green == pytest.approx(10, rel=0.15)
    assert red > green and blue > green


def test_camera_noise_depends_on_the_signal():
    dark, bright = (
        np.mean(
            [
                (noise.add_camera_noise(np.random.default_rng(s), gray(v), 5.0) - v).std()
                for s in range(12)
            ]
        )
        for v in (40, 230)
    )
    assert dark > 1.1 * bright


def test_grain_is_gray_for_the_most_part():
    made = [noise.add_grain(np.random.default_rng(s), gray(100), 3.0) - 100 for s in range(20)]
    same = [np.allclose(m[..., 0], m[..., 1], atol=1e-3) for m in made]
    assert 8 <= sum(same) <= 19


def test_texture_has_the_asked_strength_falls_with_frequency_and_leaves_parts_even():
    made = [noise.add_texture(np.random.default_rng(s), gray(100), 8.0) - 100 for s in range(20)]
    assert 3 < np.mean([m.std() for m in made]) < 8 and max(m.std() for m in made) < 12
    fine = [np.diff(m[..., 1], axis=0).std() / m[..., 1].std() for m in made]
    assert np.mean(fine) < 1.1 < 2**0.5  # white noise has the root of 2
    tiles = [m[..., 1].reshape(8, 16, 8, 16).std((1, 3)) for m in made]
    assert sum(t.min() < 0.2 * t.max() for t in tiles) >= 8
    within = [np.corrcoef(m[..., 0].ravel(), m[..., 2].ravel())[0, 1] for m in made]
    assert min(within) > 0.999  # one field, whatever its tint
