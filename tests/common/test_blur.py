from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from scipy.special import j1

from restoration.common.blur import KINDS, blur_kernel, filter2d, sinc_kernel


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [7, 21, 41])
def test_kernels_sum_to_one_and_are_point_symmetric(kind: str, size: int) -> None:
    kernel = blur_kernel(kind, size, 2.0, 0.7, 0.6, 1.7)
    assert kernel.shape == (size, size) and (kernel >= 0).all()
    assert kernel.sum().item() == pytest.approx(1, abs=1e-12)
    assert torch.allclose(kernel, kernel.flip(0, 1))
    assert kernel.argmax() == size * size // 2


@pytest.mark.parametrize(
    ("kind", "profile"),
    [
        ("aniso", lambda d: np.exp(-d / 2)),
        ("generalized_aniso", lambda d: np.exp(-(d**1.7) / 2)),
        ("plateau_aniso", lambda d: 1 / (1 + d**1.7)),
    ],
)
def test_kernels_are_the_papers_functions_of_the_covariance(kind: str, profile) -> None:
    """Tap by tap from the turned covariance matrix, which the code never builds."""
    size, sx, sy, angle = 15, 2.3, 0.8, 0.6
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag([sx**2, sy**2]) @ turn.T)
    expected = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            v = np.array([column - size // 2, row - size // 2])
            expected[row, column] = profile(v @ inverse @ v)
    kernel = blur_kernel(kind, size, sx, sy, angle, 1.7).numpy()
    assert np.allclose(kernel, expected / expected.sum(), atol=1e-12)


def test_the_isotropic_kinds_with_beta_one_and_their_sigma() -> None:
    kernel = blur_kernel("iso", 41, 3.0, 3.0, 0.0, 1.0)
    axis = torch.arange(41.0, dtype=torch.float64) - 20
    assert (kernel.sum(0) * axis**2).sum().item() == pytest.approx(9, rel=1e-3)
    assert torch.equal(kernel, blur_kernel("generalized_iso", 41, 3.0, 3.0, 0.0, 1.0))


@pytest.mark.parametrize(("size", "cutoff"), [(7, math.pi / 3), (13, math.pi / 5), (21, math.pi)])
def test_sinc_is_the_besseled_circle(size: int, cutoff: float) -> None:
    y, x = np.mgrid[:size, :size] - size // 2
    radius = np.hypot(x, y)
    with np.errstate(invalid="ignore"):
        expected = cutoff * j1(cutoff * radius) / (2 * np.pi * radius)
    expected[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    kernel = sinc_kernel(size, cutoff)
    assert np.allclose(kernel.numpy(), expected / expected.sum(), atol=1e-12)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-12)


def test_sinc_passes_what_is_below_the_cutoff_and_stops_what_is_above() -> None:
    response = np.abs(np.fft.rfft(sinc_kernel(101, math.pi / 2).sum(0).numpy(), 1000))
    assert np.allclose(response[:200], 1, atol=0.05)  # up to 0.4 pi
    assert np.allclose(response[300:], 0, atol=0.05)  # from 0.6 pi


def test_filtering_is_correlation_with_mirrored_borders() -> None:
    pixels, kernel = torch.rand(2, 3, 23, 17), torch.rand(7, 7, dtype=torch.float64)
    filtered = filter2d(pixels, kernel)
    for row, result in zip(pixels.flatten(0, 1), filtered.flatten(0, 1), strict=True):
        expected = correlate(row.double().numpy(), kernel.numpy(), mode="mirror")
        assert np.allclose(result.numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2), (9, 40)])
def test_pictures_smaller_than_the_kernel_keep_their_mean_level(size: tuple[int, int]) -> None:
    flat = torch.full((1, 3, *size), 0.4)
    kernel = blur_kernel("iso", 41, 5.0, 5.0, 0.0, 1.0)
    assert torch.allclose(filter2d(flat, kernel), flat, atol=1e-5)
