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
