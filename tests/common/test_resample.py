from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from restoration.common.resample import pad_to, resize, round_up


@pytest.mark.parametrize("target", [(11, 40), (64, 9), (37, 51)])
def test_resizing_is_the_authors_pillow_bicubic(target: tuple[int, int]) -> None:
    """Pillow resizes float images channel by channel with the same antialiased kernel."""
    pixels = torch.rand(1, 1, 29, 33)
    picture = Image.fromarray(pixels[0, 0].numpy(), mode="F")
    expected = np.asarray(picture.resize(target[::-1], Image.Resampling.BICUBIC))
    assert np.abs(resize(pixels, *target)[0, 0].numpy() - expected).max() < 1e-4


def test_resizing_to_the_same_size_is_the_same_tensor() -> None:
    pixels = torch.rand(1, 3, 4, 5)
    assert resize(pixels, 4, 5) is pixels


def test_reflection_equals_torch_where_torch_can() -> None:
    pixels = torch.rand(2, 3, 9, 8)
    assert torch.equal(pad_to(pixels, 16, 15), F.pad(pixels, (0, 7, 0, 7), mode="reflect"))


def test_reflection_works_from_one_pixel_up() -> None:
    assert torch.equal(pad_to(torch.full((1, 3, 1, 1), 0.3), 8, 8), torch.full((1, 3, 8, 8), 0.3))
    row = torch.tensor([0.0, 1.0, 2.0]).expand(1, 1, 1, 3)
    assert pad_to(row, 1, 8)[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]


def test_other_paddings() -> None:
    pixels = torch.ones(1, 1, 2, 2)
    assert pad_to(pixels, 3, 2, "zeros")[0, 0, 2].tolist() == [0, 0]
    assert pad_to(pixels, 3, 2, "replicate")[0, 0, 2].tolist() == [1, 1]
    assert (round_up(1, 8), round_up(8, 8), round_up(9, 8)) == (8, 8, 16)
