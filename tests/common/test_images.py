from __future__ import annotations

import pytest
import torch

from restoration.common.images import from_image, match_batch, to_image


@pytest.mark.parametrize("channels", [3, 4])
def test_an_image_survives_the_border_and_back(channels: int) -> None:
    image = torch.rand(2, 5, 7, channels)
    assert torch.equal(to_image(*from_image(image)), image)


def test_gray_becomes_rgb() -> None:
    image = torch.rand(1, 4, 3, 1)
    pixels, alpha = from_image(image)
    assert alpha is None
    assert torch.equal(to_image(pixels), image.expand(-1, -1, -1, 3))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(1, 0, 5, 3), "empty: batch 1, height 0, width 5"),
        (torch.zeros(0, 4, 5, 3), "empty: batch 0"),
        (torch.zeros(1, 4, 5, 2), "2 channels; expected 1"),
        (torch.full((1, 4, 5, 3), float("nan")), "NaN or infinite"),
        (torch.full((1, 4, 5, 3), float("inf")), "NaN or infinite"),
        (torch.zeros(4, 5, 3), r"found shape \(4, 5, 3\)"),
        ("a latent", "found str"),
    ],
)
def test_what_is_no_image_gets_a_sentence_naming_the_input(image, words: str) -> None:
    with pytest.raises(ValueError, match=f"`photo`.*{words}"):
        from_image(image, "photo")


def test_batches_are_shared_out_in_latent_order() -> None:
    rows = torch.arange(2.0)[:, None]
    assert match_batch(rows, 4, "reference")[:, 0].tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="`reference` has 2 images, but there are 3"):
        match_batch(rows, 3, "reference")
