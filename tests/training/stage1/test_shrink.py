"""Pairs for the enlarging networks."""

import numpy as np
import pytest
from PIL import Image

from restoration.training.stage1 import shrink


@pytest.mark.parametrize("factor", [2, 4])
def test_the_small_patch_shows_what_the_sharp_one_does(factor) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (10, 10, 3), np.uint8)
    picture = np.asarray(Image.fromarray(picture).resize((100, 90), Image.Resampling.BICUBIC))
    for seed in range(12):
        rng = np.random.default_rng(seed)
        small, sharp = shrink.enlarging_pair(rng, picture, 16, factor, plain=seed < 4)
        side = 16 * factor
        assert (small.shape, sharp.shape) == ((16, 16, 3), (side, side, 3))
        again = Image.fromarray(sharp).resize((16, 16), Image.Resampling.BICUBIC)
        apart = np.abs(np.asarray(again, float) - small)
        assert apart.max() == 0 if seed < 4 else apart.mean() < 4
