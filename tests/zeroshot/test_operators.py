"""DDNM's projection meets the measurement exactly and touches nothing else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restoration.zeroshot.operators import AveragePool, operator_for, project

SIDES = st.integers(1, 23)


def pictures(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block_means(picture: torch.Tensor, scale: int) -> torch.Tensor:
    """The mean of every block, by slicing."""
    rows = [
        torch.stack(
            [
                picture[..., y : y + scale, x : x + scale].mean((-2, -1))
                for x in range(0, picture.shape[-1], scale)
            ],
            -1,
        )
        for y in range(0, picture.shape[-2], scale)
    ]
    return torch.stack(rows, -2)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, scale=st.integers(1, 9), rows=st.integers(1, 2))
def test_block_means_become_the_targets_at_any_size(height, width, scale, rows) -> None:
    x0, target = pictures(0, rows, 4, height, width), pictures(1, rows, 4, height, width)
    out = project(x0, target, AveragePool(scale))
    torch.testing.assert_close(block_means(out, scale), block_means(target, scale))
    # The null space is x0's: what is left after the means are taken off.
    moved = out - x0
    for y in range(0, height, scale):
        for x in range(0, width, scale):
            block = moved[..., y : y + scale, x : x + scale]
            torch.testing.assert_close(block, block[..., :1, :1].expand_as(block))


@settings(max_examples=40, deadline=None)
@given(height=SIDES, width=SIDES)
def test_grayscale_keeps_color_and_takes_brightness(height, width) -> None:
    x0, target = pictures(0, 1, 3, height, width), pictures(1, 1, 3, height, width)
    out = project(x0, target, operator_for("grayscale", 4))
    torch.testing.assert_close(out.sum(1), target.sum(1))
    torch.testing.assert_close(out[:, 0] - out[:, 1], x0[:, 0] - x0[:, 1])


@settings(max_examples=40, deadline=None)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 9))
def test_inpainting_keeps_the_known_and_only_that(height, width, seed) -> None:
    x0, target = pictures(0, 1, 4, height, width), pictures(1, 1, 4, height, width)
    known = (pictures(seed, 1, 1, height, width) > 0).double()
    out = project(x0, target, operator_for("inpaint", 4), known)
    torch.testing.assert_close(out, torch.where(known > 0, target, x0))


@pytest.mark.parametrize("degradation", ["average_pool", "grayscale", "inpaint"])
def test_weight_is_a_share_of_the_way(degradation) -> None:
    x0, target = pictures(0, 1, 3, 10, 7), pictures(1, 1, 3, 10, 7)
    operator = operator_for(degradation, 3)
    whole = project(x0, target, operator)
    assert torch.equal(project(x0, target, operator, 0.0), x0)
    torch.testing.assert_close(project(x0, target, operator, 0.25), 0.75 * x0 + 0.25 * whole)
    again = project(whole, target, operator)
    torch.testing.assert_close(again, whole)


def test_scale_1_pins_everything() -> None:
    x0, target = pictures(0, 1, 4, 5, 6), pictures(1, 1, 4, 5, 6)
    torch.testing.assert_close(project(x0, target, AveragePool(1)), target)
