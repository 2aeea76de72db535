"""Levels of the two conventions, and the DDIM step in both directions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from restoration.styleid.inversion import (
    ddim_step,
    denoising_timesteps,
    inversion_steps,
    timesteps,
)


@pytest.mark.parametrize("steps", [2, 4, 20, 30, 50, 333, 500])
def test_timesteps_are_leading_with_offset_1(steps: int) -> None:
    found = timesteps(steps)
    assert found == list(range(1, 1 + steps * (1000 // steps), 1000 // steps))
    assert len(found) == steps and found[-1] <= 999


@pytest.mark.parametrize("steps", [0, 1, 501])
def test_other_counts_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"asked for {steps} steps; it takes 2 to 500"):
        timesteps(steps)


def test_diffusers_asks_at_the_level_it_goes_to() -> None:
    plan = inversion_steps(50, "diffusers")
    assert plan[0] == (1, 0, 1) and plan[1] == (21, 1, 21) and plan[-1] == (981, 961, 981)
    assert all(step.timestep == step.after for step in plan)


def test_ldm_asks_at_the_level_it_comes_from_and_ends_at_999() -> None:
    plan = inversion_steps(50, "ldm")
    assert plan[0] == (1, 1, 21) and plan[-1] == (981, 981, 999)
    assert all(step.timestep == step.before for step in plan)


@pytest.mark.parametrize("convention", ["diffusers", "ldm"])
@pytest.mark.parametrize("steps", [2, 7, 50])
def test_levels_join_and_the_way_back_meets_stored_features(convention, steps) -> None:
    plan = inversion_steps(steps, convention)
    assert all(a.after == b.before for a, b in itertools.pairwise(plan))
    back = denoising_timesteps(steps, convention)
    stored = [step.timestep for step in plan]
    assert back == stored[::-1][1 if convention == "ldm" else 0 :]


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize(("before", "after"), [(0.03, 0.14), (0.14, 13.1), (13.1, 0.5)])
def test_a_true_prediction_moves_along_its_noise(prediction, before, after) -> None:
    """Independent of the formula: x0 + sigma noise at one level becomes the same at the other."""
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 1, 4, 5, 6, generator=generator, dtype=torch.float64)
    a = 1 / math.sqrt(1 + before**2)
    output = noise if prediction == "eps" else a * noise - a * before * x0
    moved = ddim_step(x0 + before * noise, output, before, after, prediction)
    torch.testing.assert_close(moved, x0 + after * noise)
