"""Layers of a convolutional network over a map that is too large for the device, box by box.

The numbers are those of the whole map: a box reads the cells around it that the layer's
convolutions reach, zero padding stands at the borders of the map alone, group normalizations use
the statistics of the whole map, and attention sees all of it. The host's own modules compute;
nothing of the network is replaced.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.ops
import torch
from comfy import model_management as mm
from torch import Tensor
from torch.nn.functional import silu

from ..common.feature_map import Box, FeatureMap, MomentSum, attend, boxes, cuts

GROUPS = 32
"""Channel groups of every group normalization in this family."""
HALO = 2
"""Cells around a box that a residual block reads: one for each of its convolutions."""

Compute = Callable[[Box], Tensor]
"""A box of the layer's output -> 1 C h w on the device."""
Values = Callable[[Tensor], Tensor]
"""Values in, values of the same shape out, cell by cell."""


def identity(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True)
class Layer:
    """One layer over the whole map."""

    channels: int
    """Channels of its output."""
    compute: Compute
    scale: float = 1.0
    """The output's sides over the source's."""
    keep: bool = True
    """Whether the output is stored, or only its statistics."""
    done_with: tuple[FeatureMap, ...] = ()
    """Maps of the source's size that may be dropped behind the boxes."""
    side: int | None = None
    """The side of a box; None: by the channels."""


class BoxedLayers(ABC):
    """Takes a feature map through layers. What a subclass does with a layer is its affair."""

    def __init__(self, source: FeatureMap, tile_size: int, widest: int, room: int) -> None:
        """tile_size: largest side of a box, in cells, at `widest` channels; boxes of more channels
        are smaller, so that all of them take about the same memory. room: values that may be stored
        at a time, where the largest map alone does not need more."""
        self.source = self.map = source
        self.tile_size, self.widest, self.room = tile_size, widest, room
        self.peak = source.numel
        """Values that are stored at a time, a band of boxes apart."""

    @abstractmethod
    def fill(self, layer: Layer, target: FeatureMap, side: int) -> None:
        """`target` gets the layer's output, in boxes of at most `side` cells a side."""
        ...

    @abstractmethod
    def read(self, source: FeatureMap, box: Box) -> Tensor:
        """B C h w of a box, on the device."""
        ...

    @abstractmethod
    def take(self, source: FeatureMap, box: Box) -> Tensor:
        """As `read`, in memory that the layer may write to and that the next `take` uses again."""
        ...

    @abstractmethod
    def normalization(self, norm: Any, source: FeatureMap) -> Values:
        """The group normalization `norm` of values that belong to `source`, in place."""
        ...

    def conv(self, module: Any, norm: Any = None) -> None:
        """A convolution, behind normalization and SiLU where there is a `norm`."""
        source = self.map
        prepare = None if norm is None else self.activation(norm, source)

        def compute(box: Box) -> Tensor:
            return self.convolve(module, prepare, source, box)

        self.map = self.run(source, Layer(module.out_channels, compute, done_with=(source,)))

    def resnet(self, block: Any) -> None:
        """x + conv2(act(conv1(act(x)))). The map between the convolutions is kept where there is
        room for it beside x, and otherwise computed a second time."""
        source = self.map
        first = self.activation(block.norm1, source)

        def inner(box: Box) -> Tensor:
            return self.convolve(block.conv1, first, source, box)

        both = source.numel + FeatureMap(block.out_channels, source.height, source.width).numel
        keep = both <= max(self.room, self.peak)
        if keep:
            self.peak = max(self.peak, both)
        hidden = self.run(source, Layer(block.out_channels, inner, keep=keep))
        second = self.activation(block.norm2, hidden)

        def outer(box: Box) -> Tensor:
            around = box.grown(1, source.height, source.width)
            values = self.take(hidden, around) if keep else inner(around)
            values = box.cut_from(block.conv2(second(values)), around)
            skipped = self.read(source, box)
            if block.in_channels != block.out_channels:
                skipped = block.nin_shortcut(skipped)
            return values.add_(skipped)

        self.map = self.run(source, Layer(block.out_channels, outer, done_with=(source, hidden)))

    def upsample(self, module: Any) -> None:
        """Every cell four times, then a convolution."""
        source = self.map

        def compute(box: Box) -> Tensor:
            # The cells around the box, in halves: rounded outwards.
            rows = (box.top - 1) // 2, box.bottom // 2 + 1
            columns = (box.left - 1) // 2, box.right // 2 + 1
            coarse = Box(*rows, *columns).grown(0, source.height, source.width)
            fine = Box(2 * coarse.top, 2 * coarse.bottom, 2 * coarse.left, 2 * coarse.right)
            return box.cut_from(module(self.read(source, coarse)), fine)

        self.map = self.run(source, Layer(source.channels, compute, scale=2.0, done_with=(source,)))

    def downsample(self, module: Any) -> None:
        """A convolution of stride 2, which the host pads with zeros at the right and bottom: only
        where the picture ends, because elsewhere the box brings the cell that it needs."""
        source = self.map

        def compute(box: Box) -> Tensor:
            fine = Box(2 * box.top, 2 * box.bottom + 1, 2 * box.left, 2 * box.right + 1)
            return module(self.read(source, fine.grown(0, source.height, source.width)))

        channels = module.conv.out_channels
        self.map = self.run(source, Layer(channels, compute, scale=0.5, done_with=(source,)))

    def attention(self, block: Any) -> None:
        """Every cell looks at all cells: queries box by box, over the keys of every box."""
        source = self.map
        norm = self.normalization(block.norm, source)
        # Scores of one box over another then take no more than 256 channels of a tile.
        side = min(4 * math.isqrt(self.tile_size), self.side(source.channels))
        everywhere = boxes(source.height, source.width, side)

        def tokens(values: Tensor) -> Tensor:
            return values.flatten(2)[0].T

        def keys_and_values(box: Box) -> tuple[Tensor, Tensor]:
            mm.throw_exception_if_processing_interrupted()
            values = norm(self.take(source, box))
            return tokens(block.k(values)), tokens(block.v(values))

        def compute(box: Box) -> Tensor:
            queries = tokens(block.q(norm(self.take(source, box))))
            mixed = attend(queries, map(keys_and_values, everywhere))
            values = self.read(source, box)
            return block.proj_out(mixed.T.reshape(values.shape).to(values)).add_(values)

        # Nothing is dropped on the way: the last query still looks at the first key.
        self.map = self.run(source, Layer(source.channels, compute, side=side))

    def convolve(self, module: Any, prepare: Values | None, source: FeatureMap, box: Box) -> Tensor:
        """`module` behind `prepare`. It pads with zeros itself: right at the borders of the picture,
        and elsewhere in the ring of cells that is read in addition and cut off."""
        around = box.grown(module.kernel_size[0] // 2, source.height, source.width)
        values = prepare(self.take(source, around)) if prepare else self.read(source, around)
        return box.cut_from(module(values), around)

    def activation(self, norm: Any, source: FeatureMap) -> Values:
        """Normalization and SiLU, in place."""
        normalize = self.normalization(norm, source)
        return lambda values: silu(normalize(values), inplace=True)

    def side(self, channels: float) -> int:
        return max(1, min(self.tile_size, int(self.tile_size * (self.widest / channels) ** 0.5)))

    def run(self, source: FeatureMap, layer: Layer) -> FeatureMap:
        """The map that a layer makes of `source`."""
        height, width = int(source.height * layer.scale), int(source.width * layer.scale)
        target = FeatureMap(layer.channels, height, width)
        side = layer.side or self.side(max(layer.channels, source.channels / layer.scale**2))
        self.fill(layer, target, side)
        return target


class LayerPlan(BoxedLayers):
    """Computes nothing: it counts the boxes and finds what is stored at a time."""

    boxes = 0

    def fill(self, layer: Layer, target: FeatureMap, side: int) -> None:
        self.boxes += len(boxes(target.height, target.width, side))
        self.peak = max(self.peak, target.numel if layer.keep else 0)

    def read(self, source: FeatureMap, box: Box) -> Tensor:
        raise RuntimeError("A plan of the VAE holds no values: it counts boxes and sizes alone.")

    take = read

    def normalization(self, norm: Any, source: FeatureMap) -> Values:
        return identity


class LayerRun(BoxedLayers):
    """Computes what a plan of the same layers has counted."""

    def __init__(
        self,
        plan: LayerPlan,
        device: torch.device,
        storage: torch.device,
        on_box: Callable[[], None],
    ) -> None:
        """device: where boxes are computed. storage: where maps lie. on_box runs after every box;
        it may raise to stop."""
        super().__init__(plan.source, plan.tile_size, plan.widest, plan.room)
        self.peak = plan.peak
        self._taken = torch.empty(0)
        self.device, self.storage, self.on_box = device, storage, on_box

    def fill(self, layer: Layer, target: FeatureMap, side: int) -> None:
        moments = MomentSum(GROUPS) if target.channels % GROUPS == 0 else None
        for top, bottom in cuts(target.height, side):
            band = None
            for left, right in cuts(target.width, side):
                values = layer.compute(Box(top, bottom, left, right))[0]
                if moments is not None:
                    moments.add(values)
                if layer.keep:
                    if band is None:
                        shape = (target.channels, bottom - top, target.width)
                        band = torch.empty(shape, dtype=values.dtype, device=self.storage)
                    band[..., left:right] = values
                del values  # not beside the next box
                self.on_box()
            if band is not None:
                target.append(band)
            for source in layer.done_with:
                source.release(int(bottom / layer.scale) - HALO)
        if moments is not None:
            target.moments = moments.total()

    def read(self, source: FeatureMap, box: Box) -> Tensor:
        return source.read(box).to(self.device)

    def take(self, source: FeatureMap, box: Box) -> Tensor:
        shape = 1, source.channels, box.bottom - box.top, box.right - box.left
        if self._taken.numel() < math.prod(shape) or self._taken.dtype != source.dtype:
            self._taken = torch.empty(0)  # not beside the larger one
            self._taken = torch.empty(math.prod(shape), dtype=source.dtype, device=self.device)
        values = self._taken[: math.prod(shape)].view(shape)
        source.copy(box, values)
        return values

    def normalization(self, norm: Any, source: FeatureMap) -> Values:
        """With the statistics of the whole map, as one factor and one summand a channel."""
        weight, bias = norm_parameters(norm, self.device)
        moments, repeats = source.moments, source.channels // GROUPS
        assert moments is not None
        deviation = (moments.variance + norm.eps).sqrt().repeat_interleave(repeats)
        factor = weight / deviation
        summand = bias - moments.mean.repeat_interleave(repeats) * factor
        factor, summand = (
            part.float().to(self.device)[None, :, None, None] for part in (factor, summand)
        )
        return lambda values: values.copy_(values.float().mul_(factor).add_(summand))


def norm_parameters(norm: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64 on the CPU, in the host's own way to them: wherever they lie between
    two uses, and with whatever patches them on the way."""
    cast, single = comfy.ops.cast_bias_weight, torch.float32
    uncast = getattr(comfy.ops, "uncast_bias_weight", None)
    if uncast is None:  # older hosts hold nothing for the caller
        weight, bias = cast(norm, None, single, device, single)
        return weight.cpu().double(), bias.cpu().double()
    weight, bias, held = cast(norm, None, single, device, single, offloadable=True)
    found = weight.cpu().double(), bias.cpu().double()
    uncast(norm, weight, bias, held)
    return found
