"""Restoration guidance against its definition: gradient steps on the losses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from restoration.diffbir.losses import (
    STRENGTH,
    edge_weights,
    guide_rgb,
    latent_mse_weight,
    mean_coef,
    rgb_direction,
)
from restoration.tests.posterior import posterior

SHAPE = (2, 4, 6, 5)
ELEMENTS = 4 * 6 * 5


def latents() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(SHAPE, dtype=torch.float64), torch.randn(SHAPE, dtype=torch.float64)


def gradient(x0: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    leaf = x0.clone().requires_grad_(True)
    loss = (leaf - target).square().mean((1, 2, 3)).sum()
    return torch.autograd.grad(loss, leaf)[0]


@given(scale=st.floats(0, 1), repeat=st.integers(1, 6), coef=st.floats(0.01, 1))
def test_v2_closed_form_equals_gradient_steps(scale, repeat, coef) -> None:
    x0, target = latents()
    expected = x0
    for _ in range(repeat):
        expected = expected - STRENGTH * scale * gradient(expected, target) / coef
    weight = latent_mse_weight(scale, ELEMENTS, coef, repeat)
    torch.testing.assert_close(torch.lerp(x0, target, weight), expected, rtol=1e-9, atol=1e-9)


@given(scale=st.floats(0, 300), repeat=st.integers(1, 6), coef=st.floats(0.01, 1))
def test_v1_moves_the_mean_by_half_of_what_it_moves_x0(scale, repeat, coef) -> None:
    x0, target = latents()
    mean = coef * x0
    moved = x0
    for _ in range(repeat):
        delta = -scale * gradient(moved, target)
        moved, mean = moved + delta, mean + 0.5 * delta
    weight = latent_mse_weight(scale, ELEMENTS, coef, repeat, "latent_mse_v1")
    torch.testing.assert_close(
        coef * torch.lerp(x0, target, weight), mean, rtol=1e-8, atol=1e-8 * float(mean.abs().max())
    )


@pytest.mark.parametrize("loss", ["latent_mse", "latent_mse_v1"])
def test_scale_0_changes_no_bit(loss) -> None:
    x0, target = (latent.float() for latent in latents())
    assert torch.equal(torch.lerp(x0, target, latent_mse_weight(0, ELEMENTS, 0.5, 3, loss)), x0)


@given(
    sigma=st.floats(0.03, 14),
    ratio=st.floats(0, 0.99),
)
def test_mean_coef_is_the_posteriors(sigma, ratio) -> None:
    following = sigma * ratio
    a, a_prev = (1 / (1 + torch.tensor(s, dtype=torch.float64) ** 2) for s in (sigma, following))
    expected = float(posterior(a, a_prev).x0_coef)
    assert mean_coef(sigma, following) == pytest.approx(expected, rel=1e-7)


def test_mean_coef_at_both_ends() -> None:
    assert mean_coef(0.03, 0.0) == 1  # the last step is x0 itself
    assert mean_coef(1e8, 2.0) == pytest.approx(5**-0.5)  # from pure noise: sqrt(A')


def test_rgb_guidance_is_minus_the_scaled_gradient_through_the_decoder() -> None:
    matrix = torch.randn(3, 4)

    def decode(z: torch.Tensor) -> torch.Tensor:
        pixels = torch.einsum("dc,bchw->bdhw", matrix, z).tanh()
        return pixels.repeat_interleave(2, -1).repeat_interleave(2, -2)

    target, weights = torch.randn(2, 3, 8, 8), torch.rand(2, 1, 8, 8)
    x0 = torch.randn(2, 4, 4, 4)
    expected = x0
    for _ in range(2):
        leaf = expected.clone().requires_grad_(True)
        loss = (weights * (decode(leaf) - target).square()).mean((1, 2, 3)).sum()
        (g,) = torch.autograd.grad(loss, leaf)
        expected = expected - STRENGTH * 0.01 * g / 0.3
    with torch.inference_mode():  # as the host's nodes run
        born_there = x0 + 0
        born_target, born_weights = target + 0, weights + 0

        def direction(decoded: torch.Tensor) -> torch.Tensor:
            return rgb_direction(born_weights * (decoded - born_target), 0.01)

        found = guide_rgb(born_there, decode, direction, 0.3, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def alone(rows: slice) -> torch.Tensor:
        return guide_rgb(
            x0[rows], decode, lambda decoded: rgb_direction(decoded - target[rows], 0.01), 0.3, 2
        )

    each = [alone(slice(i, i + 1)) for i in (0, 1)]
    torch.testing.assert_close(torch.cat(each), alone(slice(None)))


def test_edge_weights_are_one_in_flat_areas_and_low_on_edges() -> None:
    picture = torch.full((1, 3, 8, 12), -0.4)
    assert torch.equal(edge_weights(picture), torch.ones(1, 1, 8, 12))
    picture[..., 6:] = 1.0
    weights = edge_weights(picture)
    assert torch.equal(weights[..., :4], torch.ones(1, 1, 8, 4))
    assert (weights[..., 4:8] < 0.05).all()


@given(st.integers(1, 6), st.integers(1, 6))
def test_edge_weights_stay_in_range_and_are_constant_in_blocks(rows, columns) -> None:
    weights = edge_weights(torch.rand(2, 3, 2 * rows, 2 * columns) * 2 - 1)
    assert weights.shape == (2, 1, 2 * rows, 2 * columns)
    assert (weights >= 0).all() and (weights <= 1).all()
    blocks = weights.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert torch.equal(blocks, blocks[..., :1].expand_as(blocks))


def test_edge_weights_refuse_odd_sides() -> None:
    with pytest.raises(ValueError, match="even sides"):
        edge_weights(torch.zeros(1, 3, 8, 7))
