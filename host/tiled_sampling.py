"""Sampling in tiles: every model call of a run becomes calls for tiles of the latent.

The sampler, its noise and guidance see the whole latent; only the denoiser works on parts. What
belongs to the picture is cut to each tile here where the host owns it (masks, areas, inpainting
channels, boxes, core ControlNets' hints: `tiled_conds`, `tiled_hints`), and by `TILES_KEY` where it
is ours.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy import model_management as mm
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ..common.tiling import Tile, Weighting, normalized_weights, plan_tiles
from .call_state import CallState
from .errors import claiming_wrapper
from .frames import Frames
from .memory import is_out_of_memory
from .patching import SharedByClones, has_first_easycache
from .report import announce, show, size_text
from .tiled_conds import Cond, conds_in_tiles, tile_batches
from .tiled_hints import ForeignHints, announcing, controls_of
from .view import Options, publish

TILED_SAMPLING_KEY = "diffusion_restoration_tiler"
SMALLEST_TILE_CELLS = 32
"""Below this side a tile is not halved: networks see too little of the picture there."""


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
        if self.tile_size // 2 < SMALLEST_TILE_CELLS:
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


class TiledSampling(SharedByClones):
    """What runs around the calls of one tiled model."""

    def __init__(self, plan: TilePlan, cell: int = 8, node_id: str | None = None) -> None:
        self.wanted, self.cell, self.node_id = plan, cell, node_id
        self._plan = plan
        """The plan of the present run: smaller than wanted after running out of memory."""
        self._hints = ForeignHints()

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
        _go_last(kw.get("model_options") or {})
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
        with announcing(conds, math.prod(part) / math.prod(shape)):
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
        options = model_options.get("transformer_options", {})
        frames = Frames.of(x.shape[0], options)
        weights = dict(zip(tiles, normalized_weights(tiles, self._plan.weighting), strict=True))
        controls = controls_of(conds)
        blended = [torch.zeros_like(x) for _ in conds]
        done = 0
        # It fails where a call has several prompts and more than one row for each.
        alone = has_first_easycache(options) and sum(len(cond or ()) for cond in conds) > 1
        for batch in tile_batches(tiles, conds, 1 if alone else self._plan.batch):
            mm.throw_exception_if_processing_interrupted()
            inside = [cond and conds_in_tiles(cond, batch, x, frames) for cond in conds]
            rows = torch.cat([tile.crop(x) for tile in batch])
            state = CallState(model_options)
            with self._hints.cut(controls, batch, frames):
                parts = call(
                    inside, rows, timestep.repeat(len(batch)), publish(model_options, *batch)
                )
            _check_guidance(state)
            for whole, part in zip(blended, parts, strict=True):
                for tile, prediction in zip(batch, part.chunk(len(batch)), strict=True):
                    tile.crop(whole).add_(prediction * weights[tile].to(prediction))
            done += len(batch)
            show(f"Tile {done} of {len(tiles)} in this step", self.node_id)
        return blended


def _go_last(model_options: Options) -> None:
    """Puts the tiler behind all that runs around a step's call, whatever the order of nodes: what
    acts once a step (EasyCache decides whether to skip it) must not act once a tile."""
    wrappers = model_options.get("transformer_options", {}).get("wrappers", {})
    around = wrappers.get(WrappersMP.CALC_COND_BATCH, {})
    if TILED_SAMPLING_KEY in around:
        others = {key: value for key, value in around.items() if key != TILED_SAMPLING_KEY}
        own = {TILED_SAMPLING_KEY: around[TILED_SAMPLING_KEY]}
        wrappers[WrappersMP.CALC_COND_BATCH] = others | own


def _check_guidance(state: CallState) -> None:
    nodes = state.changed()
    if nodes:
        raise ValueError(
            f"Tiled Restoration cannot cut {' and '.join(nodes)} into tiles: it keeps what the "
            "network saw in one call, which is one tile, and applies it to the whole picture. "
            "Remove it from the model, or choose a tile_size that holds the whole picture."
        )


def cell_of(model: Any) -> int:
    """Pixels a latent cell of a MODEL, along one axis."""
    return getattr(model.model.latent_format, "spacial_downscale_ratio", 8)


def apply_tiles(model: Any, plan: TilePlan, cell: int = 8, node_id: str | None = None) -> Any:
    """A clone of MODEL whose calls run in tiles. cell: pixels a latent cell, for messages.

    A latent that fits into one tile gets the untiled numbers, bit for bit.
    """
    tiling = TiledSampling(plan, cell, node_id)
    patched = model.clone()
    # The last node wins: tiles of tiles would not know where they lie.
    for kind, wrapper in (
        (WrappersMP.PREPARE_SAMPLING, tiling.prepare),
        (WrappersMP.CALC_COND_BATCH, tiling.calc_cond_batch),
    ):
        patched.remove_wrappers_with_key(kind, TILED_SAMPLING_KEY)
        patched.add_wrapper_with_key(kind, TILED_SAMPLING_KEY, claiming_wrapper(wrapper))
    patched.remove_callbacks_with_key(CallbacksMP.ON_CLEANUP, TILED_SAMPLING_KEY)
    patched.add_callback_with_key(CallbacksMP.ON_CLEANUP, TILED_SAMPLING_KEY, tiling.forget)
    return patched
