"""Tiles of the latent: how a tiler tells every branch which part of the picture it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy import model_management as mm
from torch import Tensor

from ..common.images import match_batch
from ..common.tiling import Tile, Weighting, normalised_weights, plan_tiles

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


def area_in_tile(area: Area, tile: Tile) -> Area | None:
    """The part of an area that lies in the tile, counted from the tile's corner."""
    height, width, y, x = area
    top, left = max(y, tile.y), max(x, tile.x)
    bottom = min(y + height, tile.y + tile.height)
    right = min(x + width, tile.x + tile.width)
    if bottom <= top or right <= left:
        return None
    return bottom - top, right - left, top - tile.y, left - tile.x


def conds_in_tile(conds: list[dict[str, Any]], tile: Tile) -> list[dict[str, Any]]:
    """The entries that reach into the tile, their areas and masks cut to it."""
    inside = []
    for cond in conds:
        cut = dict(cond)
        if "mask" in cond:
            cut["mask"] = tile.crop(cond["mask"])
        if "area" in cond:
            cut["area"] = area_in_tile(tuple(cond["area"]), tile)
            if cut["area"] is None:
                continue
        inside.append(cut)
    return inside


def tiled_denoiser(
    tile_size: int, overlap: int, weighting: Weighting = "gaussian"
) -> Callable[..., list[Tensor]]:
    """A CALC_COND_BATCH wrapper that runs the model and its control branches tile by tile.

    tile_size, overlap: in latent cells. The predictions of all tiles are blended with weights
    that sum to one; guidance and the sampler then act on the whole latent. A latent that fits
    into one tile gets the untiled numbers, bit for bit.
    """

    def calc_cond_batch(
        executor: Callable[..., list[Tensor]],
        model: object,
        conds: list[list[dict[str, Any]] | None],
        x: Tensor,
        timestep: Tensor,
        model_options: Options,
    ) -> list[Tensor]:
        tiles = plan_tiles(x.shape[-2], x.shape[-1], tile_size, overlap)
        blended = [torch.zeros_like(x) for _ in conds]
        for tile, weight in zip(tiles, normalised_weights(tiles, weighting), strict=True):
            mm.throw_exception_if_processing_interrupted()
            inside = [cond and conds_in_tile(cond, tile) for cond in conds]
            options = publish(model_options, tile)
            parts = executor(model, inside, tile.crop(x), timestep, options)
            for whole, part in zip(blended, parts, strict=True):
                tile.crop(whole).add_(part * weight.to(part))
        return blended

    return calc_cond_batch
