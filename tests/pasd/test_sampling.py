"""PASD's UniPC on recorded predictions: the sampler alone, without the networks."""

from __future__ import annotations

import pytest
import torch

from restoration.common.schedule import scaled_linear_alphas, sigmas_from
from restoration.pasd.sampling import unipc, unipc_timesteps
from restoration.tests.golden.suite import FOLDER, read_case

TRAJECTORIES = sorted(path.stem for path in (FOLDER / "pasd").glob("trajectory_*.json"))


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_recorded_steps(name) -> None:
    case = read_case(FOLDER / "pasd" / f"{name}.json")
    steps = case.config["steps"]
    assert unipc_timesteps(steps) == case.tensors["timesteps"].tolist()
    table = sigmas_from(scaled_linear_alphas())
    last = float(table[0]) if case.config.get("final_sigma") == "sigma of timestep 0" else 0.0
    sigmas = [*table[unipc_timesteps(steps)].tolist(), last]
    torch.testing.assert_close(
        torch.tensor(sigmas), case.tensors["sigmas"].float(), rtol=0, atol=2e-5
    )
    scale = [(1 + sigma**2) ** 0.5 for sigma in sigmas]
    seen = []

    def denoise(x: torch.Tensor, i: int) -> torch.Tensor:
        seen.append(x / scale[i])
        return x - sigmas[i] * case.tensors[f"noise_pred_{i}"]

    result = unipc(denoise, case.tensors["initial_latents"] * scale[0], sigmas)
    for i, x in enumerate([*seen[1:], result / scale[-1]]):
        expected = case.tensors[f"latents_{i}"]
        torch.testing.assert_close(x, expected, rtol=0, atol=case.tolerance)


def test_a_right_prediction_is_reached_at_once() -> None:
    x0 = torch.randn(1, 4, 5, 5)
    noise = torch.randn(1, 4, 5, 5)
    result = unipc(lambda x, i: x0, x0 + 14 * noise, [14.0, 3.0, 0.7, 0.0])
    assert torch.equal(result, x0)
