"""Sampling in tiles: every model call of a run becomes calls for tiles of the latent.

The sampler, its noise and guidance see the whole latent; only the denoiser works on parts. What
belongs to the picture is cut to each tile here where the host owns it (masks, areas, inpainting
channels, boxes, core ControlNets' hints), and by `TILE_KEY` where it is ours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import comfy.utils
import torch
from comfy import model_management as mm
from comfy.conds import CONDNoiseShape, CONDRegular
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ..common.images import match_batch
from ..common.tiling import Tile, Weighting, normalised_weights, plan_tiles
from .memory import is_out_of_memory
from .report import announce, show, size_text
from .view import Area, Options, publish

KEY = "diffusion_restoration_tiler"
SMALLEST_TILE = 32
"""Latent cells below which a tile is not halved: networks see too little of the picture there."""

Cond = dict[str, Any]
Box = tuple[Any, int, int, int, int]
"""GLIGEN's: text features, then height, width, y, x in latent cells."""


def area_in_tile(area: Area, tile: Tile) -> Area | None:
    """The part of an area that lies in the tile, counted from the tile's corner."""
    height, width, y, x = area
    top, left = max(y, tile.y), max(x, tile.x)
    bottom = min(y + height, tile.y + tile.height)
    right = min(x + width, tile.x + tile.width)
    if bottom <= top or right <= left:
        return None
    return bottom - top, right - left, top - tile.y, left - tile.x


def _boxes_in_tile(boxes: Sequence[Box], tile: Tile) -> list[Box]:
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
    """Neighbours in the list, at most `size`, in which areas and boxes lie alike."""
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


def conds_in_tiles(conds: Sequence[Cond], tiles: Sequence[Tile], x: Tensor) -> list[Cond]:
    """The entries that reach into a batch of tiles, cut to it. x: the whole latent."""
    inside = []
    for cond in conds:
        cut = placed_in_tile(cond, tiles[0])
        if cut is None:
            continue
        if "mask" in cond:
            mask = cond["mask"][: x.shape[0]]
            rows = [match_batch(tile.crop(mask), x.shape[0], "the mask") for tile in tiles]
            cut["mask"] = torch.cat(rows)
        cut["model_conds"] = {
            name: _cut_model_cond(value, tiles, x) for name, value in cond["model_conds"].items()
        }
        inside.append(cut)
    return inside


def _controls(conds: Iterable[Sequence[Cond] | None]) -> list[Any]:
    """Every control of every chain, once."""
    found: dict[int, Any] = {}
    for cond in conds:
        for entry in cond or ():
            control = entry.get("control")
            while control is not None and id(control) not in found:
                found[id(control)] = control
                control = control.previous_controlnet
    return list(found.values())


def _knows_tiles(control: Any) -> bool:
    return getattr(control, "knows_tiles", False)


@contextmanager
def _announcing(conds: dict[str, list[Cond]], share: float) -> Iterator[None]:
    """Inside, our controls announce the memory for this part of the latent."""
    controls = [control for control in _controls(conds.values()) if _knows_tiles(control)]
    for control in controls:
        control.share_per_call = share
    try:
        yield
    finally:
        for control in controls:
            control.share_per_call = 1.0


class _ForeignHints:
    """The hints of controls that know no tiles (core's), cut for each batch of tiles.

    A control keeps its prepared hint between calls and cannot see that the tile has changed, so
    what it holds is exchanged around each call and kept here for the run.
    """

    HELD = ("cond_hint_original", "extra_concat_orig", "cond_hint", "control_input")

    def __init__(self) -> None:
        self._whole: dict[int, tuple[Tensor, list[Tensor]]] = {}
        self._held: dict[tuple[int, tuple[Tile, ...]], dict[str, Any]] = {}

    def clear(self) -> None:
        self._whole.clear()
        self._held.clear()

    @contextmanager
    def cut(self, controls: Sequence[Any], tiles: Sequence[Tile], images: int) -> Iterator[None]:
        """Inside, the controls hold what belongs to these tiles."""
        saved: list[tuple[Any, dict[str, Any]]] = []
        try:
            for control in controls:
                if control.cond_hint_original is None or _knows_tiles(control):
                    continue
                saved.append((control, self._values(control)))
                key = id(control), tuple(tiles)
                if key not in self._held:
                    self._held[key] = self._part(control, tiles, images)
                for name, value in self._held[key].items():
                    setattr(control, name, value)
            yield
            for control, _ in saved:
                held = self._values(control)
                if images * len(tiles) > 1 and "control_input" in held:
                    # An adapter's output has the rows of the call that made it, and the next one
                    # may have fewer (no negative prompt).
                    held["control_input"] = None
                self._held[id(control), tuple(tiles)] = held
        finally:
            for control, values in saved:
                for name, value in values.items():
                    setattr(control, name, value)

    def _values(self, control: Any) -> dict[str, Any]:
        return {name: getattr(control, name) for name in self.HELD if hasattr(control, name)}

    def _part(self, control: Any, tiles: Sequence[Tile], images: int) -> dict[str, Any]:
        factor = control.compression_ratio
        if control.vae is not None:
            factor *= control.vae.spacial_compression_encode()
        if id(control) not in self._whole:
            # As the control would for the whole latent: its own resampling is then the identity.
            size = tiles[0].full_width * factor, tiles[0].full_height * factor
            self._whole[id(control)] = (
                _resized(control.cond_hint_original, size, control.upscale_algorithm),
                [
                    _resized(mask, size, control.upscale_algorithm)
                    for mask in control.extra_concat_orig
                ],
            )

        def rows(whole: Tensor) -> Tensor:
            parts = [tile.scaled(factor).crop(whole) for tile in tiles]
            if len(parts) == 1:
                return parts[0]
            return torch.cat([comfy.utils.repeat_to_batch_size(part, images) for part in parts])

        hint, masks = self._whole[id(control)]
        fresh = dict.fromkeys(self._values(control))
        return fresh | {
            "cond_hint_original": rows(hint),
            "extra_concat_orig": [rows(mask) for mask in masks],
        }


def _resized(image: Tensor, size: tuple[int, int], algorithm: str) -> Tensor:
    return comfy.utils.common_upscale(image, *size, algorithm, "center")


@dataclass(frozen=True)
class TilePlan:
    """tile_size, overlap: latent cells. batch: tiles a model call."""

    tile_size: int
    overlap: int
    batch: int = 1
    weighting: Weighting = "gaussian"

    def tiles(self, height: int, width: int) -> list[Tile]:
        return plan_tiles(height, width, self.tile_size, self.overlap)

    def smaller(self) -> TilePlan | None:
        """The next one that needs less memory: fewer tiles at once give the same picture, so they
        go first."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        if self.tile_size // 2 < SMALLEST_TILE:
            return None
        tile_size = self.tile_size // 2
        return replace(self, tile_size=tile_size, overlap=min(self.overlap, tile_size // 2))

    def describe(self, height: int, width: int, cell: int) -> str:
        tiles = self.tiles(height, width)
        columns = len({tile.x for tile in tiles})
        sides = f"{cell * tiles[0].width}x{cell * tiles[0].height}"
        return (
            f"{cell * width}x{cell * height} pixels in {len(tiles)} tiles of {sides} "
            f"({columns} x {len(tiles) // columns}), overlap {cell * self.overlap}, "
            f"{min(self.batch, len(tiles))} at once"
        )


class _Tiler:
    """The wrappers of one tiled model."""

    def __init__(self, plan: TilePlan, cell: int = 8, node_id: str | None = None) -> None:
        self.wanted, self.cell, self.node_id = plan, cell, node_id
        self._plan = plan
        """Of the present run: smaller than wanted after running out of memory."""
        self._hints = _ForeignHints()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Tiler:
        return self  # the oldest host deep-copies what a model carries with every clone

    def forget(self, *_: Any) -> None:
        self._plan = self.wanted
        self._hints.clear()

    def prepare(
        self,
        executor: Callable[..., Any],
        model: Any,
        shape: Sequence[int],
        conds: dict[str, list[Cond]],
        *args: Any,
        **kw: Any,
    ) -> Any:
        """PREPARE_SAMPLING: the host reserves memory for one batch of tiles, not for the whole
        latent, and so leaves the weights on the device."""
        self.forget()  # an interrupted run may not have come to its end
        rows, *channels, height, width = shape
        tiles = self._plan.tiles(height, width)
        if len(tiles) == 1:
            return executor(model, shape, conds, *args, **kw)
        part = [
            rows * min(self._plan.batch, len(tiles)),
            *channels,
            tiles[0].height,
            tiles[0].width,
        ]
        work = size_text(model.model.memory_required([2 * part[0], *part[1:]]))
        plan = self._plan.describe(height, width, self.cell)
        announce(f"Tiled Restoration: {plan}; about {work} for the work of a call.", self.node_id)
        with _announcing(conds, math.prod(part) / math.prod(shape)):
            return executor(model, part, conds, *args, **kw)

    def calc_cond_batch(
        self,
        executor: Callable[..., list[Tensor]],
        model: object,
        conds: list[list[Cond] | None],
        x: Tensor,
        timestep: Tensor,
        model_options: Options,
    ) -> list[Tensor]:
        """CALC_COND_BATCH: the predictions of all tiles, blended with weights that sum to one."""

        def call(*inputs: Any) -> list[Tensor]:
            return executor(model, *inputs)

        while True:
            try:
                return self._blended(call, conds, x, timestep, model_options)
            except Exception as error:
                smaller = self._plan.smaller()
                if smaller is None or not is_out_of_memory(error):
                    raise
            # Outside the handler: its traceback would keep the failed attempt's tensors alive.
            self._hints.clear()
            mm.soft_empty_cache()
            self._plan = smaller
            plan = smaller.describe(x.shape[-2], x.shape[-1], self.cell)
            text = f"Tiled Restoration: out of memory; going on with {plan}."
            announce(text, self.node_id, logging.WARNING)

    def _blended(
        self,
        call: Callable[..., list[Tensor]],
        conds: list[list[Cond] | None],
        x: Tensor,
        timestep: Tensor,
        model_options: Options,
    ) -> list[Tensor]:
        tiles = self._plan.tiles(x.shape[-2], x.shape[-1])
        if len(tiles) == 1:
            return call(conds, x, timestep, model_options)
        weights = dict(zip(tiles, normalised_weights(tiles, self._plan.weighting), strict=True))
        controls = _controls(conds)
        blended = [torch.zeros_like(x) for _ in conds]
        done = 0
        for batch in tile_batches(tiles, conds, self._plan.batch):
            mm.throw_exception_if_processing_interrupted()
            inside = [cond and conds_in_tiles(cond, batch, x) for cond in conds]
            rows = torch.cat([tile.crop(x) for tile in batch])
            with self._hints.cut(controls, batch, x.shape[0]):
                parts = call(
                    inside, rows, timestep.repeat(len(batch)), publish(model_options, *batch)
                )
            for whole, part in zip(blended, parts, strict=True):
                for tile, prediction in zip(batch, part.chunk(len(batch)), strict=True):
                    tile.crop(whole).add_(prediction * weights[tile].to(prediction))
            done += len(batch)
            show(f"Tile {done} of {len(tiles)} in this step", self.node_id)
        return blended


def cell_of(model: Any) -> int:
    """Pixels a latent cell of a MODEL, along one axis."""
    return getattr(model.model.latent_format, "spacial_downscale_ratio", 8)


def apply_tiles(model: Any, plan: TilePlan, cell: int = 8, node_id: str | None = None) -> Any:
    """A clone of MODEL whose calls run in tiles. cell: pixels a latent cell, for messages.

    A latent that fits into one tile gets the untiled numbers, bit for bit.
    """
    tiler = _Tiler(plan, cell, node_id)
    patched = model.clone()
    # The last node wins: tiles of tiles would not know where they lie.
    for kind in (WrappersMP.PREPARE_SAMPLING, WrappersMP.CALC_COND_BATCH):
        patched.remove_wrappers_with_key(kind, KEY)
    patched.remove_callbacks_with_key(CallbacksMP.ON_CLEANUP, KEY)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, tiler.prepare)
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, tiler.calc_cond_batch)
    patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, KEY, tiler.forget)
    return patched
