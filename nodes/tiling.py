"""Pictures larger than the card: sampling in tiles."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..common.tiling import Weighting, check_overlap
from ..host.schema import CheckedNode, schema
from ..host.tiled_sampling import TilePlan, apply_tiles, cell_of


class TiledRestoration(CheckedNode):
    """MODEL whose steps run in tiles."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="TiledRestoration",
            display_name="Tiled Restoration",
            category="restoration/tiling",
            description="Runs every sampling step in overlapping tiles and blends them, so that a "
            "picture of any size fits the card. Controls, masks, areas and ControlNets follow the "
            "tile; noise and guidance stay those of the whole picture. Works with any sampler.",
            search_aliases=[
                "tiled diffusion",
                "multidiffusion",
                "tile",
                "4k",
                "large image",
                "vram",
                "tile upscale",
                "tiled upscale",
                "ultimate upscale",
            ],
            advanced=("tile_overlap", "tile_batch_size", "weighting"),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Before or after the apply nodes, as you like. A picture that fits into "
                    "one tile gets exactly the untiled result.",
                ),
                io.Int.Input(
                    "tile_size",
                    default=768,
                    min=256,
                    max=8192,
                    step=64,
                    tooltip="Side of a tile in pixels. Smaller needs less memory and sees less of "
                    "the picture around it. The authors take 512 (DiffBIR), 768 (SeeSR) and 2560 "
                    "(PASD). Halved by itself when memory runs out.",
                ),
                io.Int.Input(
                    "tile_overlap",
                    default=128,
                    min=0,
                    max=4096,
                    step=8,
                    tooltip="How far neighbors overlap, in pixels. More hides borders better and "
                    "costs more tiles; 0 shows seams. Must be smaller than tile_size.",
                ),
                io.Int.Input(
                    "tile_batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Tiles computed at once. Faster on a card with free memory; the picture "
                    "stays the same. Lowered by itself when memory runs out.",
                ),
                io.Combo.Input(
                    "weighting",
                    options=["gaussian", "hann", "authors", "uniform"],
                    default="gaussian",
                    tooltip="How tiles are blended. gaussian: symmetric, the papers' width. hann: "
                    "the blend spreads over the whole overlap. authors: the published code's window, "
                    "half a cell off center. uniform: a plain average, for comparison.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="MODEL that works in tiles; for any sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def check_together(cls, tile_size: int, tile_overlap: int) -> None:
        check_overlap(tile_size, tile_overlap)

    @classmethod
    def execute(
        cls,
        model: Any,
        tile_size: int,
        tile_overlap: int,
        tile_batch_size: int,
        weighting: Weighting,
    ) -> io.NodeOutput:
        cell = cell_of(model)
        plan = TilePlan(tile_size // cell, tile_overlap // cell, tile_batch_size, weighting)
        node_id = cls.hidden.unique_id if cls.hidden else None
        return io.NodeOutput(apply_tiles(model, plan, cell, node_id))


NODES = [TiledRestoration]
