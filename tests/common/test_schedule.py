"""Step sets and noise levels, for every step count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from restoration import registry
from restoration.common.schedule import (
    TERMINAL_SIGMA,
    has_zero_terminal_snr,
    scaled_linear_alphas,
    schedule_sigmas,
    schedule_timesteps,
    sigmas_at,
    sigmas_from,
    signal,
    timesteps_at,
    unrounded,
    zero_terminal_snr,
)
from restoration.diffbir.sampling import (
    ddim_timesteps,
    edm_timesteps,
    growing_cfg,
    spaced_timesteps,
)
from restoration.pasd.sampling import unipc_timesteps
from restoration.seesr.sampling import leading_timesteps, trailing_timesteps
from restoration.tests.posterior import posterior

PLAIN = sigmas_from(scaled_linear_alphas()).float()
ZERO_SNR = sigmas_from(zero_terminal_snr(scaled_linear_alphas())).clamp(max=4518.8).float()

tables = pytest.mark.parametrize("table", [PLAIN, ZERO_SNR], ids=["plain", "zero SNR"])
SCHEDULES = registry.schedules()
schedules = pytest.mark.parametrize("name", SCHEDULES)


@tables
@schedules
def test_sigmas_descend_to_the_end_for_every_step_count(name, table) -> None:
    accepted = 0
    for steps in range(1, 1001):
        try:
            timesteps = schedule_timesteps(SCHEDULES[name], steps)
        except ValueError:
            continue
        accepted += 1
        sigmas = schedule_sigmas(SCHEDULES[name], table, steps)
        assert sigmas.dtype == torch.float32 and len(sigmas) == len(timesteps) + 1
        assert (sigmas.diff() < 0).all(), steps
        assert sigmas[-1] == (0 if SCHEDULES[name].ends_clean else table[0])
    assert accepted > 400


@schedules
def test_integer_timesteps_take_the_models_own_sigmas(name) -> None:
    timesteps = schedule_timesteps(SCHEDULES[name], 20)
    whole = [i for i, t in enumerate(timesteps) if t == int(t)]
    assert whole
    sigmas = schedule_sigmas(SCHEDULES[name], PLAIN, 20)
    assert all(sigmas[i] == PLAIN[int(timesteps[i])] for i in whole)


def test_spaced_steps_accumulate_and_round_to_even() -> None:
    assert spaced_timesteps(5) == [999, 749, 500, 250, 0]
    assert spaced_timesteps(50)[:3] == [999, 979, 958] and spaced_timesteps(50)[-3:] == [41, 20, 0]
    assert 499 in spaced_timesteps(21) and 500 not in spaced_timesteps(21)
    assert {499, 833} <= set(spaced_timesteps(43))
    multiplied = (([round(i * 999 / (n - 1)) for i in range(n)][::-1], n) for n in range(2, 1001))
    assert sum(spaced_timesteps(n) != other for other, n in multiplied) == 283


def test_spaced_needs_two_steps() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        schedule_timesteps(SCHEDULES["diffbir_spaced"], 1)


def test_edm_and_unipc_steps_are_numpys_for_every_count() -> None:
    for steps in range(1, 1000):
        edm = np.floor(np.linspace(999, 0, steps, endpoint=False)).astype(int)
        assert edm_timesteps(steps) == edm.tolist()
        unipc = np.linspace(0, 999, steps + 1).round()[::-1][:-1].astype(int)
        assert unipc_timesteps(steps) == unipc.tolist()


def test_ddim_refuses_the_counts_that_leave_the_table() -> None:
    refused = []
    for steps in range(1, 1001):
        try:
            assert 0 < ddim_timesteps(steps)[0] <= 999
        except ValueError as error:
            assert "divides 1000" in str(error)
            refused.append(steps)
    # Those whose stride divides 999 (1, 3, 9, 27, 37, ...), so that 1 + 999 is in the list.
    expected = {3, 9, 27, 36, 37, *range(101, 112), *range(251, 334), *range(501, 1001)}
    assert set(refused) == expected
    assert ddim_timesteps(50)[0] == 981 and ddim_timesteps(50)[-1] == 1
    assert len(ddim_timesteps(7)) == 8 and ddim_timesteps(7)[0] == 995


def test_seesr_and_turbo_steps() -> None:
    assert leading_timesteps(50)[:2] == [981, 961] and leading_timesteps(50)[-1] == 1
    assert trailing_timesteps(2) == [999, 499]


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"diffbir_ddim", "diffbir_dpmpp_m2"}))
def test_more_steps_than_noise_levels_are_refused(name) -> None:
    with pytest.raises(ValueError, match="Use fewer"):
        schedule_timesteps(SCHEDULES[name], 1001 if name == "diffbir_spaced" else 1500)


def test_zero_terminal_snr_moves_only_the_noisy_end() -> None:
    plain, moved = scaled_linear_alphas(), zero_terminal_snr(scaled_linear_alphas())
    assert moved[-1] == 0 and moved[-2] == pytest.approx(1.968e-7, rel=1e-3)
    assert moved[0] == pytest.approx(float(plain[0]), abs=1e-15)
    assert (moved.diff() < 0).all() and (moved[1:] < plain[1:]).all()
    assert has_zero_terminal_snr(ZERO_SNR) and not has_zero_terminal_snr(PLAIN)
    assert signal(ZERO_SNR, 999) == 0 and signal(PLAIN, 999) == pytest.approx(0.00466, abs=1e-5)
    assert signal(ZERO_SNR, 998) > 0


def test_an_infinite_first_level_becomes_finite() -> None:
    assert schedule_sigmas(SCHEDULES["diffbir_edm"], ZERO_SNR, 10)[0] == TERMINAL_SIGMA
    assert schedule_sigmas(SCHEDULES["diffbir_edm"], PLAIN, 10)[0] == PLAIN[-1]
    assert schedule_sigmas(SCHEDULES["seesr_ddpm"], ZERO_SNR, 50)[0] == ZERO_SNR[981]


def test_growing_guidance_is_the_authors_list() -> None:
    found = [growing_cfg(6, t) for t in spaced_timesteps(10)]
    assert found == pytest.approx(
        [1, 1, 1, 1.0003, 1.0045, 1.0417, 1.2543, 2.1245, 4.5183, 7], abs=5e-5
    )


@tables
@given(timestep=st.floats(0, 998.9))
def test_time_and_noise_level_are_inverses_between_timesteps(table, timestep) -> None:
    wanted = torch.tensor([timestep], dtype=torch.float64)
    assert timesteps_at(table, sigmas_at(table, wanted)).item() == pytest.approx(timestep, abs=1e-6)


@tables
def test_timesteps_of_the_table_are_whole(table) -> None:
    indices = torch.arange(1000, dtype=torch.float64)
    assert torch.equal(timesteps_at(table, table), indices)
    assert torch.equal(sigmas_at(table, indices), table.double())
    assert timesteps_at(table, torch.tensor([1e9, 1e-9])).tolist() == [999, 0]


@given(timestep=st.integers(1, 998), stride=st.integers(1, 500))
def test_posterior_keeps_the_marginal(timestep, stride) -> None:
    """Mean and variance of q(x_prev | x, x0) over q(x | x0) are those of q(x_prev | x0)."""
    alphas = scaled_linear_alphas()
    a, a_prev = alphas[timestep], alphas[max(timestep - stride, 0)]
    x0_coef, x_coef, variance = posterior(a, a_prev)
    assert float(x0_coef + x_coef * a.sqrt()) == pytest.approx(float(a_prev.sqrt()), rel=1e-9)
    assert float(variance + x_coef**2 * (1 - a)) == pytest.approx(float(1 - a_prev), rel=1e-9)


def test_unrounded_gives_back_the_digits_of_known_levels_only() -> None:
    exact = sigmas_from(scaled_linear_alphas())
    rounded = exact.float().tolist()
    assert [unrounded(s) for s in rounded] == pytest.approx(exact.tolist(), rel=1e-12)
    zero = sigmas_from(zero_terminal_snr(scaled_linear_alphas()))[500]
    assert unrounded(float(zero.float())) == pytest.approx(float(zero), rel=1e-12)
    for level in (0.0, 3.14159, TERMINAL_SIGMA, 1e8, math.pi / 100):
        assert unrounded(level) == level
