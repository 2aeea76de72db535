"""Running a deterministic restoration network (stage 1) with its author's own padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.resample import PadMode, pad_to, resize, round_up
from ..common.tiling import Tile, map_tiles, plan_tiles

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor


WEIGHTING = "hann"
"""How tiles are blended."""
BUNDLED_WEIGHTS = Path(__file__).parent / "weights.safetensors"
ENLARGERS = {factor: BUNDLED_WEIGHTS.with_name(f"x{factor}.safetensors") for factor in (2, 4)}
"""The bundled networks that enlarge clean pictures, by their factor."""
REACH = 12
"""Pixels of the small picture that they see on every side: one for each convolution."""


@dataclass(frozen=True)
class Padding:
    """How a network wants its input enlarged at the right and bottom."""

    multiple: int = 1
    mode: PadMode = "reflect"
    minimum: int = 1
    square: bool = False
    edge: int = 0
    """Pixels repeated around the picture, and of its neighbors around a tile: how far it sees."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) to pad a picture of height x width to."""
        height = round_up(max(height, self.minimum), self.multiple)
        width = round_up(max(width, self.minimum), self.multiple)
        side = max(height, width)
        return (side, side) if self.square else (height, width)


def padding_of(descriptor: ImageModelDescriptor) -> Padding:
    """The padding under which the network gives its authors' numbers.

    DiffBIR feeds its SwinIR (8x unshuffle: multiples of 64) zeros and lets SCUNet replicate,
    where spandrel would mirror both; all others get spandrel's requirements, mirrored.
    """
    needs = descriptor.size_requirements
    match descriptor.architecture.id:
        case "SwinIR" if needs.multiple_of == 64:
            return Padding(64, "zeros")
        case "SCUNet":
            return Padding(64, "replicate")
        case _:
            return Padding(needs.multiple_of, "reflect", needs.minimum, needs.square)


def unclamped(
    descriptor: ImageModelDescriptor, padding: Padding | None = None
) -> Callable[[Tensor], Tensor]:
    """The network as B 3 h w -> B 3 (h*scale) (w*scale), padded as its authors do, not clamped.

    Calling the descriptor itself would clamp to 0..1 and pad by reflection. spandrel has no
    public call without that, hence its `_call_fn`, which maps the network's own range and
    outputs. Puts the network in eval mode: spandrel hands it over in training mode.
    padding: default `padding_of(descriptor)`.
    """
    descriptor.model.eval()
    padding = padding or padding_of(descriptor)
    scale = descriptor.scale

    def run(pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        padded = pad_to(pixels, *padding.size(height, width), mode=padding.mode)
        output = descriptor._call_fn(  # pyright: ignore[reportPrivateUsage]
            descriptor.model, padded
        )
        return output[..., : height * scale, : width * scale]

    return run


BUNDLED_PADDING = Padding(8)
"""Our NAFNet halves its input three times and would fill what is missing with black."""
ENLARGER_PADDING = Padding(edge=REACH)


def load_bundled() -> ImageModelDescriptor:
    """The light restoration model that comes with the pack (see training/stage1/README.md), float32.

    Raises RuntimeError with advice when its file is missing or damaged.
    """
    return _load(BUNDLED_WEIGHTS, "or connect another restoration model to `upscale_model`")


def load_enlarger(factor: int) -> ImageModelDescriptor:
    """The light network of `ENLARGERS` with this factor, float32. Raises as `load_bundled`."""
    return _load(ENLARGERS[factor], "or enlarge with core's Upscale Image By")


def enlarger_for(ratio: float) -> int:
    """The factor of the bundled network for a picture that is to grow by `ratio`: the smallest that
    is enough, else the largest; 1, none, where it does not grow."""
    if ratio <= 1:
        return 1
    return next((factor for factor in ENLARGERS if factor >= ratio), max(ENLARGERS))


def with_edge(pixels: Tensor, edge: int = REACH) -> Tensor:
    """B 3 H W grown on every side: an enlarging network would take what lies beyond a picture for
    black, and tint its corners. `without_edge` cuts the result."""
    return F.pad(pixels, (edge,) * 4, mode="replicate")


def without_edge(restored: Tensor, factor: int, edge: int = REACH) -> Tensor:
    """What a network made of a picture `with_edge`, back to the picture's own area."""
    edge *= factor
    height, width = restored.shape[-2:]
    return restored[..., edge : height - edge, edge : width - edge]


def _load(file: Path, instead: str) -> ImageModelDescriptor:
    from safetensors.torch import load_file
    from spandrel import ImageModelDescriptor, ModelLoader  # imported late: it takes seconds

    try:
        weights = {key: value.float() for key, value in load_file(file).items()}
        with torch.random.fork_rng(devices=[]):  # the layers draw weights that are then replaced
            descriptor = ModelLoader().load_from_state_dict(weights)
    except Exception as error:
        raise RuntimeError(
            f"The bundled model {file} cannot be read ({error}). Reinstall the pack, {instead}."
        ) from error
    assert isinstance(descriptor, ImageModelDescriptor)
    return descriptor


def restore(
    pixels: Tensor,
    network: Callable[[Tensor], Tensor],
    scale: int,
    tile_size: int,
    tile_overlap: int,
    on_tile: Callable[[], None] = lambda: None,
) -> Tensor:
    """Runs `network` over the picture, in blended tiles where it is larger than `tile_size`.

    pixels: B 3 H W in 0..1. tile_size, tile_overlap: input pixels; a tile size of 0 never tiles.
    on_tile runs after every tile. Returns B 3 (H*scale) (W*scale), float32, not clamped.
    """
    tiles = restoration_tiles(pixels, tile_size, tile_overlap)
    return map_tiles(pixels, network, tiles, scale, WEIGHTING, on_tile)


def restoration_tiles(pixels: Tensor, tile_size: int, tile_overlap: int) -> list[Tile]:
    """The tiles `restore` uses for a picture."""
    height, width = pixels.shape[-2:]
    if not tile_size:
        return plan_tiles(height, width, max(height, width), 0)
    return plan_tiles(height, width, tile_size, tile_overlap)


def blend(pixels: Tensor, restored: Tensor, strength: float) -> Tensor:
    """strength 0 gives `pixels` (resized to the restored size), 1 gives `restored`, exactly."""
    return resize(pixels, restored.shape[-2], restored.shape[-1]).lerp(restored, strength)
