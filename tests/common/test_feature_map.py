"""Maps in bands, statistics merged from boxes, attention in parts: equal to the whole."""

from __future__ import annotations

import pytest
import torch

from restoration.common.feature_map import Box, FeatureMap, MomentSum, attend, boxes, cuts


@pytest.mark.parametrize("length", [1, 2, 7, 64, 97, 2000])
@pytest.mark.parametrize("side", [1, 3, 64, 4096])
def test_cuts_hold_every_cell_once_and_are_nearly_equal(length: int, side: int) -> None:
    parts = cuts(length, side)
    assert [cell for start, end in parts for cell in range(start, end)] == list(range(length))
    sizes = {end - start for start, end in parts}
    assert max(sizes) <= side and max(sizes) - min(sizes) <= 1
    assert len(parts) == -(-length // side)


def test_boxes_cover_the_grid_once() -> None:
    count = torch.zeros(13, 29)
    for box in boxes(13, 29, 5):
        count[box.top : box.bottom, box.left : box.right] += 1
    assert torch.equal(count, torch.ones(13, 29))


def test_a_grown_box_stops_at_the_grid_and_is_cut_back() -> None:
    values = torch.arange(30.0).reshape(5, 6)
    for box in boxes(5, 6, 2):
        outer = box.grown(2, 5, 6)
        assert outer.top == max(0, box.top - 2) and outer.right == min(6, box.right + 2)
        seen = values[outer.top : outer.bottom, outer.left : outer.right]
        expected = values[box.top : box.bottom, box.left : box.right]
        assert torch.equal(box.cut_from(seen, outer), expected)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_moments_of_boxes_are_those_of_the_whole(offset: float) -> None:
    """Also far from zero, where a sum of squares would cancel."""
    values = torch.randn(64, 23, 31) * torch.linspace(0.1, 4, 31) + offset
    total = MomentSum(32)
    for box in boxes(23, 31, 6):
        total.add(values[:, box.top : box.bottom, box.left : box.right])
    moments = total.total()
    variance, mean = torch.var_mean(values.double().reshape(32, -1), 1, correction=0)
    assert torch.allclose(moments.mean, mean, rtol=1e-6, atol=1e-6)
    assert torch.allclose(moments.variance, variance, rtol=1e-5)


def test_a_map_in_bands_reads_as_a_whole_until_rows_are_released() -> None:
    values = torch.randn(3, 10, 7)
    bands = FeatureMap(3, 10, 7)
    for start, end in ((0, 4), (4, 5), (5, 10)):
        bands.append(values[:, start:end])
    assert torch.equal(bands.whole(), values) and bands.numel == values.numel()
    for box in (Box(0, 10, 2, 3), Box(3, 6, 0, 7), Box(4, 5, 1, 2), Box(9, 10, 0, 7)):
        expected = values[None, :, box.top : box.bottom, box.left : box.right]
        assert torch.equal(bands.read(box), expected)
        bands.copy(box, copied := torch.full_like(expected, torch.nan))
        assert torch.equal(copied, expected)
    bands.release(3)
    assert torch.equal(bands.whole(), values), "row 3 lies in the first band"
    bands.release(5)
    assert torch.equal(bands.read(Box(5, 8, 0, 7))[0], values[:, 5:8])
    with pytest.raises(AssertionError, match="released"):
        bands.read(Box(4, 6, 0, 7))


@pytest.mark.parametrize("part", [1, 5, 16, 100])
@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_attention_in_parts_is_attention(part: int, scale: float) -> None:
    """scale: so that the softmax is almost a maximum, and exp of a raw score would overflow."""
    queries, keys = scale * torch.randn(9, 8), scale * torch.randn(37, 8)
    values = torch.randn(37, 5)
    parts = zip(keys.split(part), values.split(part), strict=True)
    expected = torch.nn.functional.scaled_dot_product_attention(
        queries[None].double(), keys[None].double(), values[None].double()
    )[0]
    assert torch.allclose(attend(queries, parts).double(), expected, atol=1e-4)


def test_attention_takes_half_precision_without_losing_the_scores() -> None:
    queries, keys, values = torch.randn(9, 64), torch.randn(37, 64), torch.randn(37, 5)
    half = [part.bfloat16() for part in (queries, keys, values)]
    found = attend(half[0], [(half[1], half[2])])
    assert found.dtype == torch.float32
    assert torch.allclose(found, attend(half[0].float(), [(half[1].float(), half[2].float())]))
