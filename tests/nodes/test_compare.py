"""What Compare Before and After hands to the front end, and what it hands on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.host


@pytest.fixture
def compare(comfy, tmp_path, monkeypatch):
    """The node; returns what it hands on, its UI output, and a reader for the files named there."""
    from restoration.nodes.compare import RestorationCompare

    monkeypatch.setattr(comfy.folder_paths, "temp_directory", str(tmp_path))

    def read(file: dict) -> np.ndarray:
        assert file["type"] == "temp"
        return np.asarray(Image.open(Path(tmp_path) / file["subfolder"] / file["filename"]))

    def run(before, after):
        output = RestorationCompare.execute(before, after)
        return output.result[0], output.ui, read

    return run


@pytest.mark.parametrize("rows", [(1, 1), (1, 3), (2, 2), (2, 4), (3, 1)])
def test_every_after_has_its_before_and_an_app_draws_the_after_first(compare, rows) -> None:
    befores, afters = (
        torch.arange(n).add(first).div(255).reshape(n, 1, 1, 1).expand(n, height, 5, 3)
        for n, first, height in zip(rows, (0, 100), (4, 8), strict=True)
    )
    passed_on, shown, read = compare(befores, afters)
    assert passed_on is afters
    pairs = [(read(pair["before"]), read(pair["after"])) for pair in shown["restoration_compare"]]
    assert [(before[0, 0, 0], after[0, 0, 0]) for before, after in pairs] == [
        (row % rows[0], 100 + row % rows[1]) for row in range(max(rows))
    ]
    assert all(before.shape == (4, 5, 3) and after.shape == (8, 5, 3) for before, after in pairs)
    drawn = [read(file)[0, 0, 0] for file in shown["images"]]
    assert drawn == [*range(100, 100 + rows[1]), *range(rows[0])], "each file once"


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_alpha_come_out_as_they_are(compare, channels: int) -> None:
    image = torch.rand(1, 3, 4, channels)
    _, shown, read = compare(image, image)
    expected = image.expand(-1, -1, -1, max(3, channels))[0].mul(255).byte().numpy()
    for file in shown["images"]:
        assert np.array_equal(read(file), expected)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            torch.zeros(2, 4, 4, 3),
            torch.zeros(3, 4, 4, 3),
            "`before` has 2 images, but there are 3",
        ),
        (torch.full((1, 4, 4, 3), torch.nan), torch.zeros(1, 4, 4, 3), "`before` contains NaN"),
        (torch.zeros(1, 4, 4, 3), "a latent", "`after` must be an IMAGE"),
    ],
)
def test_what_cannot_be_compared_is_told(compare, before, after, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare(before, after)
