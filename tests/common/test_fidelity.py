"""The dial: neutral at 0.5, monotone, and what it provably does to a picture."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from restoration.common import fidelity as dial
from restoration.common.diffusion import q_sample
from restoration.common.schedule import (
    LAST,
    scaled_linear_alphas,
    schedule_sigmas,
    sigmas_from,
)
from restoration.common.sizing import finish, prepare
from restoration.diffbir.losses import STRENGTH, latent_mse_weight, mean_coef
from restoration.registry import schedules

GRID = [step / 100 for step in range(101)]

KNOBS = {
    "control_strength": (lambda f: dial.control_strength(0.8, f), 0.8, (0.4, 1.2)),
    "detail_scale": (lambda f: -dial.detail_scale(0.5, f), -0.5, (-0.75, 0)),
    "guidance_scale": (lambda f: dial.guidance_scale(0.3, f), 0.3, (0.0, 0.6)),
    "noise_level": (lambda f: -dial.noise_level(900, LAST, f), -900, (-LAST, 0)),
    "gamma": (lambda f: dial.between(0.0, 0.75, 1.0, f), 0.75, (0.0, 1.0)),
    "blend_weight": (dial.blend_weight, 0.0, (0.0, 1.0)),
}
"""How each knob turns, growing with fidelity: at 0.5, and at both ends."""


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_is_neutral_in_the_middle_and_never_turns_back(name: str) -> None:
    knob, neutral, (low, high) = KNOBS[name]
    assert knob(0.5) == neutral
    assert knob(0.0) == pytest.approx(low) and knob(1.0) == pytest.approx(high)
    values = [knob(f) for f in GRID]
    assert values == sorted(values)
    assert len(set(values)) > 50  # it turns


@given(st.floats(0, 10), st.integers(0, LAST), st.floats(0, 1))
def test_a_knob_of_any_setting_stays_as_it_is(strength: float, level: int, gamma: float) -> None:
    assert dial.control_strength(strength, 0.5) == strength
    assert dial.guidance_scale(strength, 0.5) == strength
    assert dial.noise_level(level, LAST, 0.5) == level
    assert dial.between(0.0, gamma, 1.0, 0.5) == gamma


@pytest.mark.parametrize("wrong", [-0.01, 1.01, 3.0, math.nan])
@pytest.mark.parametrize("name", KNOBS)
def test_what_is_linked_from_outside_the_range_is_refused(name: str, wrong: float) -> None:
    with pytest.raises(ValueError, match=r"`fidelity` is .* from 0 .* to 1"):
        KNOBS[name][0](wrong)


# What the dial does to a picture, where it can be proved


@pytest.mark.parametrize("method", ["none", "wavelet"])
@pytest.mark.parametrize("upscale_by", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("factor", [1, 2])
def test_the_final_blend_nears_the_photo_in_proportion(method, upscale_by, factor: int) -> None:
    working, info = prepare(torch.rand(1, 32, 48, 3), upscale_by, 24, 8, "pad")
    _, height, width, _ = working.shape
    restored = 3 * torch.rand(1, height * factor, width * factor, 3) - 1  # as a network may draw it
    results = [finish(restored, info, method, fidelity=f) for f in GRID]
    assert torch.equal(results[0], finish(restored, info, method))
    photo = finish(restored, info, method, fidelity=1.0)
    apart = [(result - photo).norm().item() for result in results]
    assert apart[:51] == [apart[0]] * 51 and apart[0] > 1
    expected = apart[0] * torch.tensor(GRID[::-2])
    torch.testing.assert_close(torch.tensor(apart[50:]), expected, rtol=1e-4, atol=1e-3)
    assert (results[51] - results[50]).abs().max() <= 0.0201  # no jump where the blend begins


def test_at_1_the_photo_comes_back_whole_or_the_reference_given_for_it() -> None:
    photo, clean, drawn = (
        torch.rand(2, 21, 30, 4),
        torch.rand(1, 24, 32, 3),
        torch.rand(2, 24, 32, 3),
    )
    _, info = prepare(photo, 1.0, 0, 8, "black")
    back = finish(drawn, info, "adain", fidelity=1.0)
    assert torch.equal(back, photo)
    # Padded as the working picture is, so cut like it.
    torch.testing.assert_close(
        finish(drawn, info, "wavelet", clean, fidelity=1.0)[..., :3],
        clean[:, :21, :30].expand(2, -1, -1, -1),
    )


def test_a_reference_for_other_pictures_is_refused_before_it_is_blended() -> None:
    photo, drawn = torch.rand(3, 16, 16, 3), torch.rand(3, 16, 16, 3)
    _, info = prepare(photo, 1.0, 0, 8, "pad")
    with pytest.raises(ValueError, match="`reference`"):
        finish(drawn, info, "none", torch.rand(2, 16, 16, 3), fidelity=0.7)


@pytest.mark.parametrize("side", [512, 1024])
def test_closed_form_guidance_moves_every_step_in_proportion(side: int) -> None:
    """Not x0, which overshoots at the noisy steps, but the mean of the step: by 2 STRENGTH scale / N
    of the way, at DiffBIR's example scale over its whole schedule."""
    elements = 4 * (side // 8) ** 2
    table = sigmas_from(scaled_linear_alphas())
    sigmas = schedule_sigmas(schedules()["diffbir_spaced"], table, 50).tolist()
    for sigma, after in pairwise(sigmas):
        coef = mean_coef(sigma, after)
        moves = [
            coef * latent_mse_weight(dial.guidance_scale(0.5, f), elements, coef, 1) for f in GRID
        ]
        whole = 2 * STRENGTH * 0.5 / elements
        assert moves == pytest.approx([2 * f * whole for f in GRID], rel=1e-6, abs=1e-12)
        assert max(moves) < 1  # short of the target


def test_closed_form_guidance_nears_its_target_until_it_lands_on_it() -> None:
    coef, elements = mean_coef(3.0, 2.0), 4 * 64 * 64
    left = [1 - latent_mse_weight(dial.guidance_scale(0.3, f), elements, coef, 1) for f in GRID]
    assert left[0] == 1 and left == sorted(left, reverse=True) and left[-1] > 0


def test_the_photos_share_of_the_start_point_grows() -> None:
    """PASD's start, noised twice: sqrt(A_level) is what is left of the first mix."""
    alphas = scaled_linear_alphas()
    z, zero = torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    shares = []
    for f in GRID:
        once = q_sample(z, zero, float(alphas[LAST]))
        level = float(alphas[dial.noise_level(900, LAST, f)])
        shares.append(q_sample(once, zero, level).mean().item())
    assert shares == sorted(shares) and shares[-1] > 5 * shares[0]
    assert shares[-1] <= math.sqrt(float(alphas[LAST])) + 1e-7  # never more than SeeSR's start
