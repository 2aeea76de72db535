"""Draws of a training step by seed, step and sample."""

from __future__ import annotations

import torch

from restoration.common.draws import integers, kept, normal, rows_of


def test_two_halves_draw_what_the_whole_batch_draws() -> None:
    whole, halves = rows_of(7, 3, 0, 4), [rows_of(7, 3, 0, 2), rows_of(7, 3, 2, 2)]
    for draw in (
        lambda rows: normal(rows, "noise", 4, 8, 8),
        lambda rows: integers(rows, "timesteps", 1000),
        lambda rows: kept(rows, "path", 0.5, 3, 5),
    ):
        assert torch.equal(draw(whole), torch.cat([draw(half) for half in halves]))


def test_every_part_of_the_key_counts() -> None:
    (row,) = rows_of(7, 3, 1, 1)
    others = [*rows_of(8, 3, 1, 1), *rows_of(7, 4, 1, 1), *rows_of(7, 3, 2, 1)]
    values = [normal([each], "noise", 4) for each in (row, *others)]
    values.append(normal([row], "posterior", 4))
    assert len({tuple(value.flatten().tolist()) for value in values}) == 5


def test_draws_have_their_ranges() -> None:
    rows = rows_of(0, 0, 0, 2000)
    steps = integers(rows, "timesteps", 10)
    assert steps.dtype == torch.int64 and set(steps.tolist()) == set(range(10))
    masks = kept(rows, "path", 0.1)
    assert set(masks.tolist()) == {0.0, 1.0} and abs(masks.mean() - 0.9) < 0.03
    noise = normal(rows, "noise", 16)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
