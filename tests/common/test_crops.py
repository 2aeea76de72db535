"""Squares, partners and texts of a few pictures, for the rows of a step."""

from __future__ import annotations

from collections import Counter

import torch

from restoration.common.crops import Crops, as_long_as_each_other
from restoration.common.draws import rows_of

SIZES = ((9, 20), (16, 16), (30, 17))
PICTURES = [
    torch.rand(3, *size, generator=torch.Generator().manual_seed(n)) for n, size in enumerate(SIZES)
]


def rows(step: int, count: int = 3, start: int = 0):
    return rows_of(4, step, start, count)


def test_partners_show_the_same_square_and_a_batch_does_not_depend_on_how_it_is_divided() -> None:
    crops = Crops(PICTURES, [1 - each for each in PICTURES], size=16)
    for step in range(6):
        batch = crops.batch(rows(step), 3)
        assert batch["hq"].shape == (3, 3, 16, 16)
        assert torch.allclose(batch["lq"], 1 - batch["hq"], atol=1e-6)
        halves = [crops.batch(rows(step, 1, place), 3) for place in range(3)]
        assert torch.equal(torch.cat([each["hq"] for each in halves]), batch["hq"])
        assert [name for each in halves for name in each["names"]] == batch["names"]
    # A whole picture is a square of its own: mirrored half the time.
    whole = [crops.batch(rows(step), 3) for step in range(20)]
    squares = [b["hq"][b["names"].index("picture 2")] for b in whole]
    assert {torch.equal(each, PICTURES[1]) for each in squares} == {True, False}


def test_every_picture_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    crops = Crops(PICTURES, PICTURES, size=8)
    epochs = [tuple(crops.batch(rows(step), 3)["names"]) for step in range(12)]
    assert all(sorted(each) == ["picture 1", "picture 2", "picture 3"] for each in epochs)
    assert len(set(epochs)) > 2


def test_damage_gives_the_target_too_and_is_another_one_every_time() -> None:
    seeds = []

    def damage(pixels, seed):
        seeds.append(seed)
        return pixels / 2, pixels / 4

    batch = Crops(PICTURES, size=16, damage=damage).batch(rows(0), 3)
    assert torch.equal(batch["hq"], 2 * batch["lq"]) and len(set(seeds)) == 3
    assert "text" not in batch


def test_texts_are_the_pictures_own_and_half_of_them_empty() -> None:
    texts = [torch.full((2, 1), float(n)) for n in range(3)]
    crops = Crops(PICTURES, PICTURES, texts, torch.full((3, 1), -1.0), size=8)
    seen = Counter()
    for step in range(40):
        batch = crops.batch(rows(step), 3)
        for name, text in zip(batch["names"], batch["text"], strict=True):
            values = set(text.flatten().tolist())
            assert values in ({-1.0}, {float(name[-1]) - 1})
            seen[values == {-1.0}] += 1
    assert 40 <= seen[True] <= 80
    one = Crops(PICTURES, PICTURES, texts[:1], size=8).batch(rows(0), 3)
    assert torch.equal(one["text"], torch.zeros(3, 2, 1))


def test_texts_of_two_lengths_are_repeated_as_a_whole() -> None:
    first, second = as_long_as_each_other([torch.arange(4.0)[:, None], torch.arange(6.0)[:, None]])
    assert (
        first[:, 0].tolist() == [0, 1, 2, 3] * 3 and second[:, 0].tolist() == [0, 1, 2, 3, 4, 5] * 2
    )
