"""Stage 1 inside the host: its memory, its progress bar, its interrupt."""

from __future__ import annotations

import comfy.utils
import torch
from comfy import model_management as mm
from spandrel import ImageModelDescriptor
from torch import Tensor

from ..common.tiling import map_tiles
from ..host.memory import with_shrinking_tile
from ..host.report import announce, size_text
from .restorer import (
    BUNDLED_PADDING,
    ENLARGER_PADDING,
    WEIGHTING,
    Padding,
    load_bundled,
    load_enlarger,
    padding_of,
    restoration_tiles,
    unclamped,
    with_edge,
    without_edge,
)

BYTES_PER_PIXEL = 3 * 384
"""Activations per input pixel and byte of precision: core's estimate for its upscale models."""


def check_restorer(model: object, height: int, width: int) -> ImageModelDescriptor:
    """`model` as a descriptor that can restore an RGB picture of this size, or a ValueError."""
    if not isinstance(model, ImageModelDescriptor):
        raise ValueError(
            f"`upscale_model` is a {type(model).__name__}, not a network that turns one picture "
            "into another. Connect Load Upscale Model with a restoration or upscaling model, or "
            "leave the input empty for the bundled one."
        )
    name = model.architecture.name
    if (model.input_channels, model.output_channels) != (3, 3):
        raise ValueError(
            f"The {name} model takes {model.input_channels} channels and gives "
            f"{model.output_channels}; an RGB picture has 3. Choose a color model."
        )
    if model.purpose == "FaceSR" and height != width:
        raise ValueError(
            f"The {name} model restores aligned, square face crops; this picture is "
            f"{width}x{height}. Crop the face first, or choose a model for whole photos."
        )
    return model


def run_restorer(pixels: Tensor, model: object | None, tile_size: int, tile_overlap: int) -> Tensor:
    """Runs an UPSCALE_MODEL (None: the bundled model) over B 3 H W in 0..1.

    Every image alone, in blended tiles of `tile_size` input pixels (0: never tiled); the tile is
    halved when memory runs out. Progress and interruption per tile. The network is back on the
    CPU afterwards, also after an error. Returns B 3 (H*scale) (W*scale), float32, not clamped.
    """
    if model is None:
        descriptor, padding = load_bundled(), BUNDLED_PADDING
    else:
        descriptor = check_restorer(model, pixels.shape[-2], pixels.shape[-1])
        padding = padding_of(descriptor)
    what = f"Remove Degradation ({descriptor.architecture.name})"
    return _run(what, pixels, descriptor, padding, tile_size, tile_overlap)


def run_enlarger(pixels: Tensor, factor: int, tile_size: int, tile_overlap: int) -> Tensor:
    """`run_restorer` with the bundled network that enlarges by `factor`."""
    what, network = f"Enlarge Cleaned Photo (x{factor})", load_enlarger(factor)
    return _run(what, pixels, network, ENLARGER_PADDING, tile_size, tile_overlap)


@torch.no_grad()
def _run(
    what: str,
    pixels: Tensor,
    descriptor: ImageModelDescriptor,
    padding: Padding,
    tile_size: int,
    tile_overlap: int,
) -> Tensor:
    height, width = pixels.shape[-2:]
    device, scale = mm.get_torch_device(), descriptor.scale
    largest = tile_size or max(height, width)
    network = unclamped(descriptor, padding)

    element = torch.finfo(descriptor.dtype).bits // 8
    area = min(height, largest) * min(width, largest)
    needed = area * element * max(scale, 1) * BYTES_PER_PIXEL
    mm.free_memory(mm.module_size(descriptor.model) + needed, device)
    tiles = restoration_tiles(pixels[:1], tile_size, tile_overlap)
    if len(tiles) > 1:
        columns = len({tile.x for tile in tiles})
        announce(
            f"{what}: {width}x{height} pixels in {len(tiles)} tiles of {tiles[0].width}x"
            f"{tiles[0].height} ({columns} x {len(tiles) // columns}), overlap {tile_overlap}; "
            f"about {size_text(needed)} for the work of one."
        )

    def on_device(tile: Tensor) -> Tensor:
        return without_edge(network(tile.to(device, descriptor.dtype)), scale, padding.edge)

    progress = comfy.utils.ProgressBar(1)

    def restore_row(index: int, tile: int) -> Tensor:
        row = pixels[index : index + 1]
        overlap = tile_overlap if tile == tile_size else min(tile_overlap, tile // 2)
        tiles = restoration_tiles(row, tile, overlap)
        total = len(tiles)
        done = index * total

        def after_tile() -> None:
            nonlocal done
            done += 1
            progress.update_absolute(done, total * len(pixels))
            mm.throw_exception_if_processing_interrupted()

        around = with_edge(row, padding.edge)
        return map_tiles(around, on_device, tiles, scale, WEIGHTING, after_tile)

    restored, tile = [], largest
    try:
        descriptor.to(device)
        for index in range(len(pixels)):
            result, tile = with_shrinking_tile(
                lambda size, index=index: restore_row(index, size), tile, what
            )
            restored.append(result)
    finally:
        descriptor.to("cpu")
    return torch.cat(restored).to(mm.intermediate_device())
