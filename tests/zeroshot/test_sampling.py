"""The authors' updates, beyond what the golden cases record."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restoration.zeroshot.axes import Bicubic, Blur
from restoration.zeroshot.operators import AveragePool, Identity, Separable
from restoration.zeroshot.sampling import Measurement, Step, ddrm, jump_times


@settings(max_examples=80, deadline=None)
@given(steps=st.integers(1, 30), length=st.integers(1, 12), repeats=st.integers(1, 4))
def test_a_run_with_jumps_goes_through_every_level_and_one_at_a_time(
    steps, length, repeats
) -> None:
    times = jump_times(steps, length, repeats)
    assert times[0] == steps - 1 and times[-1] == -1
    assert all(abs(a - b) == 1 for a, b in pairwise(times))
    assert set(times) == set(range(-1, steps))
    jumps = len(range(0, steps - length, length)) * (repeats - 1)
    assert len(times) == steps + 1 + 2 * length * jumps
    assert jump_times(steps, length, 1) == [*range(steps - 1, -2, -1)]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(2, 30),
    length=st.integers(1, 6),
    low=st.integers(0, 10),
    high=st.integers(0, 30),
)
def test_jumps_stay_within_their_levels(steps, length, low, high) -> None:
    times = jump_times(steps, length, 3, (low, high))
    ups = [(a, b) for a, b in pairwise(times) if b > a]
    assert all(low <= a and b <= high for a, b in ups)


def test_the_variance_of_what_is_measured_is_that_of_the_level() -> None:
    """Over the measurement's noise and fresh noise together, hot and cold coordinates alike."""
    torch.manual_seed(0)
    count, sigma_y, to = 20000, 0.3, 0.5
    for scale in (1, 2, 4):  # singular values 1, 1/2, 1/4: two of them cold
        operator = Identity() if scale == 1 else AveragePool(scale)
        clean = torch.zeros(count, 1, scale, scale)
        y = operator.degrade(clean) + sigma_y * torch.randn(count, 1, 1, 1)
        fresh, noise = torch.randn_like(clean), torch.randn_like(clean)
        known = Measurement(operator, y, sigma_y)
        x = ddrm(known, 0.85, 1.0)(Step(0, clean, noise, fresh, to))
        measured = operator.degrade(x) * scale  # of unit vectors
        assert abs(float(measured.std()) / to - 1) < 0.03, scale


def test_noise_free_ddrm_puts_the_measurement_and_only_that() -> None:
    torch.manual_seed(1)
    operator = Separable(Bicubic(2))
    x0, noise, fresh = (torch.randn(1, 3, 8, 12) for _ in range(3))
    y = torch.randn(1, 3, 4, 6)
    step = Step(0, x0, noise, torch.zeros_like(fresh), 1.0)
    x = ddrm(Measurement(operator, y, 0.0), 0.0, 1.0)(step)
    torch.testing.assert_close(operator.degrade(x), y, atol=1e-5, rtol=0)
    null = x - operator.invert(operator.degrade(x), x)
    plain = x0 + noise
    torch.testing.assert_close(
        null, plain - operator.invert(operator.degrade(plain), x), atol=1e-5, rtol=0
    )


def test_blur_at_symmetric_borders_needs_no_decomposition() -> None:
    for taps, sigma in ((5, 0.8), (13, 2.0)):
        blur = Blur(sigma, taps)
        left, values, right = blur.cosines(17)
        torch.testing.assert_close(left * values @ right, blur.matrix(17), atol=1e-12, rtol=0)
        white = torch.ones(17, dtype=torch.float64)
        torch.testing.assert_close(blur.matrix(17) @ white, white)
