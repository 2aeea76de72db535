"""Pictures side by side."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from restoration.tools.panel import BACK, halves, panel

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def plain(color: tuple[int, int, int], width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), color)


def bounds(whole: Image.Image, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of all pixels of a color."""
    rows, columns = np.nonzero((np.asarray(whole) == color).all(-1))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("width", [7, 25, 213, 640])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_pictures_of_one_size_keep_their_pixels(width: int, count: int) -> None:
    """Whatever the rounding: a row that is as wide as its pictures resamples none."""
    noise = np.random.default_rng(0).integers(0, 256, (300, width, 3), np.uint8)
    row = [("", Image.fromarray(noise))] * count
    whole = panel([row], count * (width + 8) - 8, gap=8)
    assert whole.size == (count * (width + 8) - 8, 300)
    for left in range(0, whole.width, width + 8):
        assert np.array_equal(np.asarray(whole)[:, left : left + width], noise)


def test_pictures_of_any_shape_have_one_height_and_fill_the_row() -> None:
    whole = panel([[("", plain(RED, 300, 100)), ("", plain(BLUE, 50, 100))]], 706)
    assert bounds(whole, RED) == (0, 0, 600, 200)
    assert bounds(whole, BLUE) == (606, 0, 706, 200)


def test_labels_stand_above_and_rows_below_one_another() -> None:
    red, blue = plain(RED, 60, 40), plain(BLUE, 60, 40)
    whole = panel([[("one line", red)], [("", blue)]], 60, text=10)
    assert whole.size == (60, 22 + 40 + 6 + 40)
    assert bounds(whole, RED) == (0, 22, 60, 62) and bounds(whole, BLUE) == (0, 68, 60, 108)
    assert (np.asarray(whole)[:22] != BACK).any()  # the letters
    taller = panel([[("two\nlines", red), ("one", blue)]], 126, text=10)
    assert bounds(taller, RED)[1] == bounds(taller, BLUE)[1] == 6 + 2 * 16


def test_a_line_of_pixels_does_not_vanish() -> None:
    assert panel([[("", plain(RED, 1000, 1))]], 100).size == (100, 1)


def test_halves_are_the_left_of_one_and_the_right_of_the_other() -> None:
    before = plain(RED, 40, 10)
    whole = halves(before, plain(BLUE, 40, 10))
    assert bounds(whole, RED)[0] == 0 and bounds(whole, BLUE)[2] == 40
    assert whole.getpixel((20, 5)) == WHITE and whole.getpixel((17, 5)) == RED
    assert whole.getpixel((22, 5)) == BLUE and before.getpixel((20, 5)) == RED
