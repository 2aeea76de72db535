"""DiffBIR's samplers on models whose answer is known, and on recorded predictions."""

from __future__ import annotations

import pytest
import torch

from restoration.common.sampling import derived_seed, spaced_ddpm, step_noise
from restoration.common.schedule import scaled_linear_alphas, sigmas_from
from restoration.diffbir.sampling import dpm_solver_m2
from restoration.seesr.sampling import leading_timesteps, trailing_timesteps
from restoration.tests.golden.suite import FOLDER, read_case
from restoration.tests.posterior import posterior


def never(i: int) -> torch.Tensor:
    raise AssertionError("no noise is added before sigma 0")


def test_one_spaced_step_is_the_posterior_of_the_paper() -> None:
    x0, n, x_vp = (torch.randn(2, 4, 5, 5, dtype=torch.float64) for _ in range(3))
    sigma, following = 5.0, 1.5
    a, a_prev = (1 / (1 + torch.tensor(s, dtype=torch.float64) ** 2) for s in (sigma, following))
    coefs = posterior(a, a_prev)
    expected = coefs.x0_coef * x0 + coefs.x_coef * x_vp + coefs.variance.sqrt() * n
    x = spaced_ddpm(lambda x, i: x0, x_vp / a.sqrt(), [sigma, following], lambda i: n)
    torch.testing.assert_close(x * a_prev.sqrt(), expected, rtol=1e-12, atol=1e-12)


def test_the_last_step_returns_the_prediction_itself() -> None:
    x0 = torch.randn(1, 4, 5, 5)
    assert torch.equal(spaced_ddpm(lambda x, i: x0, x0 * 3, [0.4, 0.0], never), x0)
    assert torch.equal(dpm_solver_m2(lambda x, i: x0, x0 * 3, [0.4, 0.0]), x0)


def test_an_infinite_first_level_costs_no_digits() -> None:
    """From sigma 1e8 (float32!) the first step is sqrt(A') x0 + sqrt(1 - A') noise."""
    x0, n = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    x = spaced_ddpm(lambda x, i: x0, torch.randn(1, 4, 8, 8) * 1e8, [1e8, 2.0], lambda i: n)
    torch.testing.assert_close(x, x0 + 2 * n, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [6, 12])
def test_the_solver_is_exact_for_a_prediction_linear_in_log_sigma(steps) -> None:
    """Second order: x0 = a + b lambda has an integral in closed form; with few steps the last
    one is of first order, with 10 and more it is not."""
    sigmas = torch.logspace(1, -1, steps + 1, dtype=torch.float64).tolist()
    logs = torch.tensor(sigmas, dtype=torch.float64).log()
    shape = torch.ones(1, dtype=torch.float64)

    def denoise(x: torch.Tensor, i: int) -> torch.Tensor:
        return shape * (2 - 0.3 * logs[i])

    x = dpm_solver_m2(denoise, shape * 10, sigmas)
    # One step further by hand, from where the orders 1, 2, 2, ... have led.
    expected = shape * 10
    for i in range(steps):
        second = i > 0 and not (i == steps - 1 and steps < 10)
        h = logs[i] - logs[i + 1]
        slope = (denoise(expected, i) - denoise(expected, i - 1)) / (logs[i - 1] - logs[i])
        d = denoise(expected, i) + (slope * h / 2 if second else 0)
        expected = expected * (sigmas[i + 1] / sigmas[i]) + (1 - sigmas[i + 1] / sigmas[i]) * d
    torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-12)


def test_step_noise_of_an_image_does_not_depend_on_its_batch() -> None:
    three, one = torch.empty(3, 4, 6, 6), torch.empty(1, 4, 6, 6)
    many, single = step_noise(7, three), step_noise(7, one)
    for i in range(3):
        rows = many(i)
        assert torch.equal(rows[:1], single(i))
        assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(step_noise(8, one)(0), step_noise(7, one)(0))


def test_derived_seeds_differ_and_are_valid() -> None:
    seeds = {derived_seed(seed, purpose) for seed in range(50) for purpose in ("a", "b")}
    assert len(seeds) == 100 and all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(2**64 - 1, "a") == derived_seed(2**64 - 1, "a")


@pytest.mark.parametrize("name", ["trajectory_lre", "trajectory_noise", "trajectory_turbo"])
def test_seesrs_recorded_steps(name) -> None:
    """SeeSR's DDPM is the same sampler: its latents from its own noise predictions."""
    case = read_case(FOLDER / "seesr" / f"{name}.json")
    spacing = case.config["scheduler"]["timestep_spacing"]
    steps = case.config["num_inference_steps"]
    timesteps = {"leading": leading_timesteps, "trailing": trailing_timesteps}[spacing](steps)
    assert timesteps == case.tensors["timesteps"].tolist()
    table = sigmas_from(scaled_linear_alphas())
    sigmas = [*table[timesteps].tolist(), 0.0]
    scale = [(1 + sigma**2) ** 0.5 for sigma in sigmas]
    latents = []

    def denoise(x: torch.Tensor, i: int) -> torch.Tensor:
        latents.append(x / scale[i])
        return x - sigmas[i] * case.tensors["noise_pred"][i]

    start = case.tensors["latents_start"] * scale[0]
    last = spaced_ddpm(denoise, start, sigmas, lambda i: case.tensors["step_noise"][i])
    found = torch.stack([*latents[1:], last])
    torch.testing.assert_close(found, case.tensors["latents"], rtol=0, atol=case.tolerance)
