"""Conditionings cut to tiles of the latent: areas, boxes, masks, and what the network gets beside
the latent."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from comfy.conds import CONDNoiseShape, CONDRegular
from torch import Tensor

from ..common.images import match_batch
from ..common.tiling import Tile
from .frames import Frames
from .view import Area

Cond = dict[str, Any]
"""An entry of a conditioning, as samplers see it."""
GligenBox = tuple[Any, int, int, int, int]
"""Text features, then height, width, y, x in latent cells."""


def area_in_tile(area: Area, tile: Tile) -> Area | None:
    """The part of an area that lies in the tile, counted from the tile's corner."""
    height, width, y, x = area
    top, left = max(y, tile.y), max(x, tile.x)
    bottom = min(y + height, tile.y + tile.height)
    right = min(x + width, tile.x + tile.width)
    if bottom <= top or right <= left:
        return None
    return bottom - top, right - left, top - tile.y, left - tile.x


def _boxes_in_tile(boxes: Sequence[GligenBox], tile: Tile) -> list[GligenBox]:
    inside = ((text, area_in_tile((h, w, y, x), tile)) for text, h, w, y, x in boxes)
    return [(text, *box) for text, box in inside if box is not None]


def placed_in_tile(cond: Cond, tile: Tile) -> Cond | None:
    """The entry with its area and boxes counted from the tile's corner; None outside its area."""
    cut = dict(cond)
    if "area" in cond:
        cut["area"] = area_in_tile(tuple(cond["area"]), tile)
        if cut["area"] is None:
            return None
    if "gligen" in cond:
        kind, network, boxes, *rest = cond["gligen"]
        if kind == "position":
            cut["gligen"] = (kind, network, _boxes_in_tile(boxes, tile), *rest)
    return cut


def _layout(cond: Cond | None) -> object:
    """What must be the same for tiles that share one call."""
    if cond is None:
        return None
    boxes = cond["gligen"][2] if "gligen" in cond else ()
    return cond.get("area"), [box[1:] for box in boxes]


def tile_batches(
    tiles: Sequence[Tile], conds: Sequence[Sequence[Cond] | None], size: int
) -> Iterator[list[Tile]]:
    """Neighbors in the list, at most `size`, in which areas and boxes lie alike."""
    batch: list[Tile] = []
    before: object = None
    for tile in tiles:
        layout = [_layout(placed_in_tile(entry, tile)) for cond in conds for entry in cond or ()]
        if batch and (len(batch) == size or layout != before):
            yield batch
            batch = []
        batch.append(tile)
        before = layout
    yield batch


def _cut_model_cond(value: Any, tiles: Sequence[Tile], x: Tensor) -> Any:
    """What the network gets beside the latent, its rows ordered by tile, then image."""
    if not isinstance(value, CONDRegular):
        return value
    images = x.shape[0]
    shaped = isinstance(value, CONDNoiseShape) and value.cond.shape[2:] == x.shape[2:]
    areas = [(tile.height, tile.width, tile.y, tile.x) if shaped else None for tile in tiles]
    # The host would repeat rows over tiles and images together: first to the images alone.
    rows = [value.process_cond(batch_size=images, area=area) for area in areas]
    if not shaped:
        return rows[0]
    return value._copy_with(torch.cat([row.cond for row in rows]))


def conds_in_tiles(
    conds: Sequence[Cond], tiles: Sequence[Tile], x: Tensor, frames: Frames
) -> list[Cond]:
    """The entries that reach into a batch of tiles, cut to it. x: the whole latent of `frames`."""
    place = repr((tuple(tiles), frames.indices))
    inside = []
    for cond in conds:
        cut = placed_in_tile(cond, tiles[0])
        if cut is None:
            continue
        # Caches over the steps (EasyCache) are kept by it: each place needs one of its own, the
        # same at every step.
        cut["uuid"] = uuid.uuid5(cond["uuid"], place)
        if "mask" in cond:
            mask = cond["mask"][: x.shape[0]]
            rows = [match_batch(tile.crop(mask), x.shape[0], "the mask") for tile in tiles]
            cut["mask"] = torch.cat(rows)
        cut["model_conds"] = {
            name: _cut_model_cond(value, tiles, x) for name, value in cond["model_conds"].items()
        }
        inside.append(cut)
    return inside
