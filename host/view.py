"""Tiles of the latent: how a tiler tells every branch which part of the picture it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..common.tiling import Tile
from .frames import Frames, check_windows

TILES_KEY = "diffusion_restoration_tile"
"""In `transformer_options`: the `Tile`s, in latent cells and of one size, that the present call works
on, one after the other in the rows of every chunk. Every hint, mask and guidance target is cropped
by them. Absent: the whole latent."""

PIXELS_PER_CELL = 8
"""Pixels in a cell of a latent, along one axis."""

Options = dict[str, Any]
Size = tuple[int, int]
"""Height, width."""
Area = tuple[int, int, int, int]
"""The host's order: height, width, y, x, in latent cells."""


def publish(model_options: Options, *tiles: Tile) -> Options:
    """A copy of `model_options` that tells everything inside the call about its tiles."""
    inner = {**model_options.get("transformer_options", {}), TILES_KEY: tiles}
    return {**model_options, "transformer_options": inner}


@dataclass(frozen=True)
class PicturePart:
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
class RowLayout:
    """Which part of the picture every row of a model call shows. Rows are ordered by chunk
    (conditional, unconditional, areas), then tile, then image."""

    tiles: tuple[Tile, ...]
    areas: tuple[Area | None, ...]
    """One for each chunk, counted from the tile's corner."""
    frames: Frames
    """Which images the rows of a chunk and tile are."""
    full_size: Size | None
    """The size of the whole latent; None where the call does not tell it: an area without tiles."""

    @classmethod
    def of(cls, x: Tensor, options: Options, areas: Sequence[Area | None]) -> RowLayout:
        """x: the call's rows. options: its `transformer_options`. ValueError where context windows
        cut the picture."""
        check_windows(options)
        tiles = options.get(TILES_KEY, ())
        if tiles:
            full_size = tiles[0].full_height, tiles[0].full_width
        else:
            full_size = None if any(areas) else (x.shape[-2], x.shape[-1])
        images = x.shape[0] // (len(areas) * max(1, len(tiles)))
        return cls(tiles, tuple(areas), Frames.of(images, options), full_size)

    def rows(self, part_of: Callable[[PicturePart], Tensor], name: str) -> Tensor:
        """All rows of something that belongs to the picture. part_of: a part of the picture ->
        what belongs to it, one row for all images of the run, or one each. name: for the error
        when the rows do not go around."""
        return torch.cat(
            [
                self.frames.pick(part_of(PicturePart(tile, area)), name)
                for area in self.areas
                for tile in self.tiles or (None,)
            ]
        )

    def cut(self, whole: Tensor, name: str, factor: int = 1) -> Tensor:
        """All rows of a tensor of the whole picture, ... H W, which is `factor` times as fine as
        the latent."""
        return self.rows(lambda part: part.crop(whole, factor), name)


def wrong_size(what: str, size: Size, advice: str) -> ValueError:
    """The error of something that belongs to the picture but has another size than the latent.
    what: says what it is and its own size. size: of the latent. advice: what to connect."""
    return ValueError(
        f"{what}, but the model works on {size[1]}x{size[0]}. {advice}, and for tiled sampling use "
        "Tiled Restoration: other packs' tilers do not say which part they show."
    )
