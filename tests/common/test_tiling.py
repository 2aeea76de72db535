from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restoration.common.tiling import (
    Tile,
    gaussian_window,
    hann_window,
    map_tiles,
    normalized_weights,
    plan_tiles,
    tile_starts,
    tile_weights,
)

plans = st.tuples(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 128), st.integers(0, 127)
).filter(lambda p: p[3] < p[2])


@given(plans, st.sampled_from(["gaussian", "hann", "uniform", "authors"]))
@settings(max_examples=20, deadline=None)
def test_tiles_cover_every_cell_and_weights_sum_to_one(plan, weighting) -> None:
    height, width, size, overlap = plan
    overlap = min(overlap, size - 1, max(0, size - 8))  # keep the number of tiles bounded
    tiles = plan_tiles(height, width, size, overlap)
    total = torch.zeros(height, width, dtype=torch.float64)
    for tile, weight in zip(tiles, normalized_weights(tiles, weighting), strict=True):
        assert weight.shape == (tile.height, tile.width)
        assert tile.y >= 0 and tile.y + tile.height <= height
        assert tile.x >= 0 and tile.x + tile.width <= width
        assert (weight > 0).all()
        tile.crop(total).add_(weight)
    assert torch.allclose(total, torch.ones_like(total), atol=1e-12)


@given(st.integers(1, 2000), st.integers(1, 600), st.integers(0, 599))
@settings(max_examples=200, deadline=None)
def test_neighbors_overlap_by_at_least_the_overlap(length: int, tile: int, overlap: int) -> None:
    if overlap >= tile:
        return
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0 and starts[-1] == max(0, length - tile)
    assert starts == sorted(set(starts))
    assert all(b - a <= tile - overlap for a, b in pairwise(starts))


@given(st.integers(1, 2000), st.integers(1, 600), st.integers(1, 600))
@settings(max_examples=200, deadline=None)
def test_starts_are_those_of_the_three_authors(length: int, tile: int, stride: int) -> None:
    """DiffBIR: 0, stride, ... <= length - tile, and length - tile if not hit. PASD: 0, T - o,
    ... until the tile reaches the end, where it is moved back. SeeSR: the same by counting."""
    tile = min(tile, length)
    stride = min(stride, tile)
    diffbir = list(range(0, length - tile + 1, stride))
    if diffbir[-1] != length - tile:
        diffbir.append(length - tile)
    pasd = [0]
    while pasd[-1] + tile < length:
        pasd.append(pasd[-1] + stride)
    pasd[-1] = length - tile
    count = 1
    while (count - 1) * stride + tile < length:
        count += 1
    seesr = [i * stride for i in range(count - 1)] + [length - tile]
    assert tile_starts(length, tile, tile - stride) == diffbir == pasd == seesr


@pytest.mark.parametrize("scale", [1, 2])
def test_tiling_a_local_function_changes_nothing(scale: int) -> None:
    """Up to the rounding of the weighted sum."""
    pixels = torch.rand(2, 3, 61, 47)

    def enlarge(x: torch.Tensor) -> torch.Tensor:
        return 3 * x.repeat_interleave(scale, -1).repeat_interleave(scale, -2) - 1

    seen = []
    tiles = plan_tiles(61, 47, (24, 16), 7)
    result = map_tiles(pixels, enlarge, tiles, scale, on_tile=lambda: seen.append(1))
    assert torch.allclose(result, enlarge(pixels), atol=1e-5)
    assert len(seen) == len(tiles) > 4


def test_a_single_tile_is_bit_exact() -> None:
    pixels = torch.rand(1, 3, 20, 20)
    assert torch.equal(map_tiles(pixels, torch.sin, plan_tiles(20, 20, 64, 8)), pixels.sin())


def test_the_default_window_is_symmetric_and_the_authors_is_not() -> None:
    for window in (gaussian_window(33), hann_window(32)):
        assert torch.allclose(window, window.flip(0), rtol=1e-12)
    assert torch.equal(tile_weights(8, 8), tile_weights(8, 8).T)
    authors = tile_weights(8, 8, "authors")
    assert not torch.equal(authors, authors.flip(0)) and torch.equal(authors, authors.flip(1))


def test_no_seam_on_a_gradient_where_tiles_disagree() -> None:
    """Each tile answers with an offset of its own: the blend spreads the step over the overlap
    (32 columns; at its steepest 2 / 32 a column)."""
    ramp = torch.linspace(0, 1, 256).expand(1, 1, 64, 256)
    offsets = iter([0.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.0, 0.1])
    blended = map_tiles(
        ramp,
        lambda x: x + next(offsets),
        plan_tiles(64, 256, 64, 32),
        weighting="hann",
    )
    steps = (blended - ramp).diff(dim=-1).abs()
    assert steps.max() < 0.1 * 2 / 32


def test_tiles_scale_and_crop() -> None:
    tile = Tile(1, 2, 3, 4, 10, 12).scaled(2)
    assert tile == Tile(2, 4, 6, 8, 20, 24)
    assert tile.crop(torch.zeros(1, 3, 20, 24)).shape == (1, 3, 6, 8)


def test_a_bad_overlap_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="smaller than the tile"):
        plan_tiles(100, 100, 32, 32)
