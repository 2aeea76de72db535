from __future__ import annotations

import torch

from restoration.training.proof.pictures import FIGURES, LABELS, UNSEEN, Pictures, picture


def test_a_picture_shows_what_its_labels_say() -> None:
    """The color of every figure, and no other, is in the picture by its hue."""
    for seed in range(20):
        pixels, seen = picture(seed)
        red, green, blue = pixels
        there = {
            "red": (red - torch.maximum(green, blue)).max() > 0.3,
            "green": (green - torch.maximum(red, blue)).max() > 0.3,
            "blue": (blue - torch.maximum(red, green)).max() > 0.3,
        }
        for name, is_there in there.items():
            assert not is_there or seen[LABELS.index(name)], (seed, name)
        assert seen[: len(FIGURES)].any() and pixels.min() >= 0 and pixels.max() <= 1


def test_pictures_are_the_same_again_and_the_unseen_ones_are_others() -> None:
    one, again, unseen = Pictures(0, 2), Pictures(0, 2), Pictures(UNSEEN, 2)
    assert torch.equal(one.batch()["lq"], again.batch()["lq"])
    assert not torch.equal(one.batch()["hq"], unseen.batch()["hq"])
    assert not torch.equal(one.batch()["lq"], one.batch()["hq"])
