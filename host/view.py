"""Tiles of the latent: how a tiler tells every branch which part of the picture it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.images import match_batch
from ..common.tiling import Tile

TILE_KEY = "diffusion_restoration_tile"
"""In `transformer_options`: the `Tile`s, in latent cells and of one size, that the present call works
on, one after the other in the rows of every chunk. Every hint, mask and guidance target is cropped
by them. Absent: the whole latent."""

Options = dict[str, Any]
Area = tuple[int, int, int, int]
"""The host's order: height, width, y, x, in latent cells."""


def publish(model_options: Options, *tiles: Tile) -> Options:
    """A copy of `model_options` that tells everything inside the call about its tiles."""
    inner = {**model_options.get("transformer_options", {}), TILE_KEY: tiles}
    return {**model_options, "transformer_options": inner}


def current_tiles(transformer_options: Options) -> tuple[Tile, ...]:
    """The tiles this call works on; none where the whole latent is meant."""
    return transformer_options.get(TILE_KEY, ())


@dataclass(frozen=True)
class Place:
    """Where a part of the picture lies: a tile of it, and an area within that."""

    tile: Tile | None = None
    area: Area | None = None

    def crop(self, whole: Tensor, factor: int = 1) -> Tensor:
        """Its part of ... H W (a view), which is `factor` times as fine as the latent."""
        if self.tile is not None:
            whole = self.tile.scaled(factor).crop(whole)
        if self.area is not None:
            height, width, y, x = (factor * value for value in self.area)
            whole = whole[..., y : y + height, x : x + width]
        return whole


@dataclass(frozen=True)
class View:
    """Which part of the picture every row of a call shows. Rows are ordered by chunk
    (conditional, unconditional, areas), then tile, then image."""

    tiles: tuple[Tile, ...]
    areas: tuple[Area | None, ...]
    """One for each chunk, counted from the tile's corner."""
    images: int
    """Latents in the batch."""

    @classmethod
    def of(cls, x: Tensor, options: Options, areas: Sequence[Area | None]) -> View:
        """x: the call's rows. options: its `transformer_options`."""
        tiles = current_tiles(options)
        return cls(tiles, tuple(areas), x.shape[0] // (len(areas) * max(1, len(tiles))))

    @property
    def full_size(self) -> tuple[int, int] | None:
        """Of the latent around the tiles; unknown without one."""
        tile = self.tiles[0] if self.tiles else None
        return None if tile is None else (tile.full_height, tile.full_width)

    def rows(self, part: Callable[[Place], Tensor], name: str) -> Tensor:
        """All rows of something that belongs to the picture. part: a place -> its part, one row
        for all images, or one each. name: for the error when the rows do not go around."""
        return torch.cat(
            [
                match_batch(part(Place(tile, area)), self.images, name)
                for area in self.areas
                for tile in self.tiles or (None,)
            ]
        )
