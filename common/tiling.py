"""Tile geometry: where tiles lie, how they are weighted, how they are put together again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Weighting = Literal["gaussian", "hann", "uniform", "authors"]

GAUSSIAN_VARIANCE = 0.01
"""Variance of the window, in units of the tile's length squared: DiffBIR, PASD and SeeSR alike."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of a grid (pixels or latents) and the size of the whole grid."""

    y: int
    x: int
    height: int
    width: int
    full_height: int
    full_width: int

    def scaled(self, factor: int) -> Tile:
        """The same place in a grid that is `factor` times as fine."""
        return Tile(
            self.y * factor,
            self.x * factor,
            self.height * factor,
            self.width * factor,
            self.full_height * factor,
            self.full_width * factor,
        )

    def grown(self, around: int) -> Tile:
        """With so much more on every side, in a grid that is larger by as much."""
        more = 2 * around
        return Tile(
            self.y,
            self.x,
            self.height + more,
            self.width + more,
            self.full_height + more,
            self.full_width + more,
        )

    def crop(self, tensor: Tensor) -> Tensor:
        """The tile's part of ... H W (a view)."""
        return tensor[..., self.y : self.y + self.height, self.x : self.x + self.width]


def check_overlap(tile: int, overlap: int) -> None:
    """ValueError unless neighbors that overlap so much still make headway."""
    if not 0 <= overlap < tile:
        raise ValueError(
            f"tile_overlap is {overlap} and tile_size {tile}: the overlap must be 0 or more and "
            "smaller than the tile. An eighth to a quarter of tile_size is usual."
        )


def tile_starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one axis: 0, tile - overlap, ..., the last one moved to the end.

    Neighbors overlap by at least `overlap`. The starts of DiffBIR (stride = tile - overlap),
    PASD and SeeSR. One tile of the whole length when it is not longer than `tile`.
    """
    if length < 1 or tile < 1:
        raise ValueError(f"A length of {length} cannot be cut into tiles of {tile}.")
    check_overlap(tile, overlap)
    if length <= tile:
        return [0]
    stride = tile - overlap
    return [*range(0, length - tile, stride), length - tile]


def plan_tiles(height: int, width: int, tile: int | tuple[int, int], overlap: int) -> list[Tile]:
    """Tiles that cover every cell of a height x width grid, rows outer, columns inner.

    tile: a side, or (height, width); cut to the grid where the grid is smaller. Along an axis
    that fits into one tile there is no overlap.
    """
    tile_height, tile_width = tile if isinstance(tile, tuple) else (tile, tile)
    return [
        Tile(y, x, min(tile_height, height), min(tile_width, width), height, width)
        for y in tile_starts(height, tile_height, overlap)
        for x in tile_starts(width, tile_width, overlap)
    ]


def gaussian_window(length: int, midpoint: float | None = None) -> Tensor:
    """exp(-((i - midpoint) / length)^2 / (2 v)) / sqrt(2 pi v), v = 0.01; float64, `length`.

    midpoint: default (length - 1) / 2, the symmetric window. All three papers' code uses that
    for x, but length / 2 for y, half a pixel off (see `tile_weights`, "authors").
    """
    if midpoint is None:
        midpoint = (length - 1) / 2
    offset = (torch.arange(length, dtype=torch.float64) - midpoint) / length
    norm = math.sqrt(2 * math.pi * GAUSSIAN_VARIANCE)
    return torch.exp(-(offset**2) / (2 * GAUSSIAN_VARIANCE)) / norm


def hann_window(length: int) -> Tensor:
    """sin^2(pi (i + 1/2) / length), float64, `length`: symmetric and nowhere zero."""
    return torch.sin(torch.pi * (torch.arange(length, dtype=torch.float64) + 0.5) / length) ** 2


def tile_weights(height: int, width: int, weighting: Weighting = "gaussian") -> Tensor:
    """Weight of every cell of a tile before normalization, height x width, float64, positive.

    `gaussian`: the separable window, symmetric. `authors`: the same with the vertical midpoint
    of the published code of DiffBIR, PASD and SeeSR, half a cell too low. `hann`: sin^2, whose
    blend spreads over the whole overlap, where the Gaussian's is steep when tiles overlap much.
    `uniform`: all ones.
    """
    if weighting == "uniform":
        return torch.ones(height, width, dtype=torch.float64)
    if weighting == "hann":
        return torch.outer(hann_window(height), hann_window(width))
    midpoint = height / 2 if weighting == "authors" else None
    return torch.outer(gaussian_window(height, midpoint), gaussian_window(width))


def normalized_weights(tiles: list[Tile], weighting: Weighting = "gaussian") -> list[Tensor]:
    """One height x width float64 tensor a tile; over all tiles they sum to one at every cell."""
    total = torch.zeros(tiles[0].full_height, tiles[0].full_width, dtype=torch.float64)
    weights = [tile_weights(tile.height, tile.width, weighting) for tile in tiles]
    for tile, weight in zip(tiles, weights, strict=True):
        tile.crop(total).add_(weight)
    return [w / tile.crop(total) for tile, w in zip(tiles, weights, strict=True)]


def map_tiles(
    pixels: Tensor,
    function: Callable[[Tensor], Tensor],
    tiles: list[Tile],
    scale: int = 1,
    weighting: Weighting = "gaussian",
    on_tile: Callable[[], None] = lambda: None,
) -> Tensor:
    """Applies `function` tile by tile and blends the results with weights that sum to one.

    pixels: B C H W, or as much larger on every side as the function sees beyond a tile: it is then
    given so much around each. function: B C h w -> B C' (h*scale) (w*scale), on any device, of what
    the tile itself covers.
    on_tile runs after every tile (progress; it may raise to stop).
    Returns B C' (H*scale) (W*scale) of what the tiles cover, on the device of `pixels`, float32. A
    single tile is returned as `function` gives it, bit for bit.
    """
    if len(tiles) == 1:
        result = function(pixels).to(pixels.device, torch.float32)
        on_tile()
        return result
    around = (pixels.shape[-1] - tiles[0].full_width) // 2
    fine = [tile.scaled(scale) for tile in tiles]
    result: Tensor | None = None
    total = torch.zeros(fine[0].full_height, fine[0].full_width, dtype=torch.float64)
    for tile, place in zip(tiles, fine, strict=True):
        weight = tile_weights(place.height, place.width, weighting)
        value = function(tile.grown(around).crop(pixels)).to(pixels.device, torch.float32)
        if result is None:
            shape = (*value.shape[:2], place.full_height, place.full_width)
            result = torch.zeros(shape, device=pixels.device)
        place.crop(result).add_(value * weight.to(value))
        place.crop(total).add_(weight)
        on_tile()
    assert result is not None
    return result / total.to(result)
