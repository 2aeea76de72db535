"""Lens blur: sums, spread and symmetry of the kernels, and their place."""

import numpy as np
import pytest

from restoration.training.stage1 import blur


def spread(kernel):
    """Variance along both axes, pixels squared."""
    y, x = np.mgrid[: kernel.shape[0], : kernel.shape[1]] - kernel.shape[0] // 2
    return float((kernel * (x**2 + y**2)).sum())


@pytest.mark.parametrize("radius", [1.0, 2.4, 5.0])
def test_a_disk_sums_to_one_is_round_and_as_wide_as_asked(radius):
    kernel = blur.disk(radius)
    assert kernel.sum() == pytest.approx(1)
    assert np.allclose(kernel, kernel.T) and np.allclose(kernel, kernel[::-1])
    # The variance of an even disk is radius^2 / 2, and that of the pixels it is drawn on 1 / 6.
    assert spread(kernel) == pytest.approx(radius**2 / 2 + 1 / 6, abs=0.15)


def test_a_disk_within_its_pixel_changes_nothing():
    assert blur.disk(0.2).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_streak_has_its_length_and_direction():
    kernel = blur.streak(6.0, 0.0)
    assert kernel.sum() == pytest.approx(1) and np.allclose(kernel, kernel[:, ::-1], atol=1e-6)
    assert kernel[kernel.shape[0] // 2].sum() == pytest.approx(1)
    assert np.allclose(blur.streak(6.0, np.pi / 2), kernel.T, atol=1e-5)
    assert spread(kernel) == pytest.approx(36 / 12, abs=0.3)


def test_lens_blur_keeps_brightness_and_place():
    point = np.zeros((33, 33, 3), np.float32)
    point[16, 16] = 100
    for seed in range(40):
        soft = blur.lens_blur(np.random.default_rng(seed), point, 1.5)
        assert soft.sum() == pytest.approx(point.sum(), rel=1e-3)
        y, x = np.mgrid[:33, :33]
        light = soft[..., 0] / soft[..., 0].sum()
        assert (light * y).sum() == pytest.approx(16, abs=0.05)
        assert (light * x).sum() == pytest.approx(16, abs=0.05)
        assert light.max() < 0.5
