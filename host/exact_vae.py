"""The VAE in tiles, with the numbers of the whole: one layer after the other over the picture.

A tiled VAE differs from the whole one in three places: the zero padding of its convolutions, which
must stand at the borders of the picture and not of the tile; the statistics of its group
normalisations, which belong to the picture; and the attention in its middle, which sees all of it.
So no tile goes through the network. Every layer goes over the picture in boxes, reads the cells
around a box that its convolutions reach, and leaves its map and that map's statistics to the next.
The maps lie in host memory; the device holds one box at a time. All of it follows from what the
layers compute, and the host's own modules compute it: nothing of the VAE is replaced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import comfy.ops
import comfy.utils
import torch
from comfy import model_management as mm
from comfy.ldm.modules.diffusionmodules.model import AttnBlock, Decoder, Encoder
from torch import Tensor
from torch.nn.functional import silu

from ..common.feature_map import Box, FeatureMap, MomentSum, attend, boxes, cuts
from .memory import with_shrinking_tile
from .report import announce, size_text

GROUPS = 32
"""Of every group normalisation in this family."""
HALO = 2
"""Cells around a box that a residual block reads: one for each of its convolutions."""

Compute = Callable[[Box], Tensor]
"""A box of the layer's output -> 1 C h w on the device."""
Layers = Callable[["Walk"], None]


def identity(values: Tensor) -> Tensor:
    return values


class Walk:
    """Takes a feature map through layers. This one computes nothing: it counts the boxes and finds
    the largest map, and so plans for `Stream`, which computes."""

    def __init__(self, source: FeatureMap, tile_size: int, widest: int) -> None:
        """tile_size: largest side of a box, in cells, at `widest` channels; boxes of more channels
        are smaller, so that all of them take about the same memory."""
        self.source = self.map = source
        self.tile_size, self.widest = tile_size, widest
        self.boxes, self.largest = 0, source.numel

    def conv(self, module: Any, norm: Any = None) -> None:
        """A convolution, behind normalisation and SiLU where there is a `norm`."""
        source, reach = self.map, module.kernel_size[0] // 2
        prepare = identity if norm is None else self.activation(norm, source)

        def compute(box: Box) -> Tensor:
            return self.convolve(module, prepare, source, box, reach)

        self.map = self.run(module.out_channels, source, compute)

    def resnet(self, block: Any) -> None:
        """x + conv2(act(conv1(act(x)))). The map between the convolutions is kept where it does
        not raise the peak of host memory, and otherwise computed a second time."""
        source = self.map
        first = self.activation(block.norm1, source)

        def inner(box: Box) -> Tensor:
            return self.convolve(block.conv1, first, source, box, 1)

        keep = source.numel * (1 + block.out_channels / source.channels) <= self.largest
        hidden = self.run(block.out_channels, source, inner, keep=keep, release=False)
        second = self.activation(block.norm2, hidden)

        def outer(box: Box) -> Tensor:
            around = box.grown(1, source.height, source.width)
            values = self.read(hidden, around) if keep else inner(around)
            values = box.cut_from(block.conv2(second(values)), around)
            skipped = self.read(source, box)
            if block.in_channels != block.out_channels:
                skipped = block.nin_shortcut(skipped)
            return skipped + values

        self.map = self.run(block.out_channels, source, outer, also=hidden)

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

        self.map = self.run(source.channels, source, compute, scale=2.0)

    def downsample(self, module: Any) -> None:
        """A convolution of stride 2, which the host pads with zeros at the right and bottom: only
        where the picture ends, because elsewhere the box brings the cell that it needs."""
        source = self.map

        def compute(box: Box) -> Tensor:
            fine = Box(2 * box.top, 2 * box.bottom + 1, 2 * box.left, 2 * box.right + 1)
            return module(self.read(source, fine.grown(0, source.height, source.width)))

        self.map = self.run(module.conv.out_channels, source, compute, scale=0.5)

    def attention(self, block: Any) -> None:
        """Every cell looks at all cells: queries box by box, over the keys of every box."""
        source = self.map
        norm = self.normalisation(block.norm, source)
        # Scores of one box over another then take no more than 256 channels of a tile.
        side = min(4 * math.isqrt(self.tile_size), self.side(source.channels))
        everywhere = boxes(source.height, source.width, side)

        def tokens(values: Tensor) -> Tensor:
            return values.flatten(2)[0].T

        def keys_and_values(box: Box) -> tuple[Tensor, Tensor]:
            mm.throw_exception_if_processing_interrupted()
            values = norm(self.read(source, box))
            return tokens(block.k(values)), tokens(block.v(values))

        def compute(box: Box) -> Tensor:
            values = self.read(source, box)
            mixed = attend(tokens(block.q(norm(values))), map(keys_and_values, everywhere))
            return values + block.proj_out(mixed.T.reshape(values.shape).to(values))

        # Nothing is released: the last query still looks at the first key.
        self.map = self.run(source.channels, source, compute, release=False, side=side)

    def convolve(
        self,
        module: Any,
        prepare: Callable[[Tensor], Tensor],
        source: FeatureMap,
        box: Box,
        reach: int,
    ) -> Tensor:
        """The module pads with zeros itself: right at the borders of the picture, and elsewhere in
        the ring of `reach` cells that is read in addition and cut off."""
        around = box.grown(reach, source.height, source.width)
        return box.cut_from(module(prepare(self.read(source, around))), around)

    def activation(self, norm: Any, source: FeatureMap) -> Callable[[Tensor], Tensor]:
        normalise = self.normalisation(norm, source)
        return lambda values: silu(normalise(values), inplace=True)

    def side(self, channels: float) -> int:
        return max(1, min(self.tile_size, int(self.tile_size * (self.widest / channels) ** 0.5)))

    def run(
        self,
        channels: int,
        source: FeatureMap,
        compute: Compute,
        scale: float = 1.0,
        keep: bool = True,
        release: bool = True,
        also: FeatureMap | None = None,
        side: int | None = None,
    ) -> FeatureMap:
        """A layer over the whole picture.

        scale: of the output's sides over the source's. keep: whether the output is stored or only
        its statistics. release: whether the source, and `also`, may be dropped behind the boxes.
        side: of a box; default by the channels.
        """
        target = FeatureMap(channels, int(source.height * scale), int(source.width * scale))
        side = side or self.side(max(channels, source.channels / scale**2))
        self.walk(target, compute, scale, keep, (source, also) if release else (), side)
        return target

    def walk(
        self,
        target: FeatureMap,
        compute: Compute,
        scale: float,
        keep: bool,
        done_with: tuple[FeatureMap | None, ...],
        side: int,
    ) -> None:
        self.boxes += len(boxes(target.height, target.width, side))
        self.largest = max(self.largest, target.numel if keep else 0)

    def read(self, source: FeatureMap, box: Box) -> Tensor:
        """B C h w of a box; only in a `Stream`."""
        raise RuntimeError("A plan of the VAE holds no values: it counts boxes and sizes alone.")

    def normalisation(self, norm: Any, source: FeatureMap) -> Callable[[Tensor], Tensor]:
        return identity


class Stream(Walk):
    """Computes what `Walk` plans."""

    def __init__(
        self,
        plan: Walk,
        device: torch.device,
        storage: torch.device,
        on_box: Callable[[], None],
    ) -> None:
        """plan: of the same layers. device: where boxes are computed. storage: where maps lie.
        on_box runs after every box; it may raise to stop."""
        super().__init__(plan.source, plan.tile_size, plan.widest)
        self.largest = plan.largest
        self.device, self.storage, self.on_box = device, storage, on_box

    def read(self, source: FeatureMap, box: Box) -> Tensor:
        return source.read(box).to(self.device)

    def normalisation(self, norm: Any, source: FeatureMap) -> Callable[[Tensor], Tensor]:
        """Group normalisation with the statistics of the whole map, as one factor and one summand
        a channel."""
        weight, bias = norm_parameters(norm, self.device)
        moments, repeats = source.moments, source.channels // GROUPS
        assert moments is not None
        deviation = (moments.variance + norm.eps).sqrt().repeat_interleave(repeats)
        factor = weight / deviation
        summand = bias - moments.mean.repeat_interleave(repeats) * factor
        factor, summand = (
            part.float().to(self.device)[None, :, None, None] for part in (factor, summand)
        )
        return lambda values: torch.addcmul(summand, values.float(), factor).to(values.dtype)

    def walk(
        self,
        target: FeatureMap,
        compute: Compute,
        scale: float,
        keep: bool,
        done_with: tuple[FeatureMap | None, ...],
        side: int,
    ) -> None:
        moments = MomentSum(GROUPS) if target.channels % GROUPS == 0 else None
        for top, bottom in cuts(target.height, side):
            band = None
            for left, right in cuts(target.width, side):
                values = compute(Box(top, bottom, left, right))[0]
                if moments is not None:
                    moments.add(values)
                if keep:
                    if band is None:
                        shape = (target.channels, bottom - top, target.width)
                        band = torch.empty(shape, dtype=values.dtype, device=self.storage)
                    band[..., left:right] = values
                del values  # not beside the next box
                self.on_box()
            if band is not None:
                target.append(band)
            for source in done_with:
                if source is not None:
                    source.release(int(bottom / scale) - HALO)
        if moments is not None:
            target.moments = moments.total()


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


def encoder_layers(model: Any) -> Layers:
    """Pixels -> mean and log variance of the latent."""

    def layers(walk: Walk) -> None:
        encoder = model.encoder
        walk.conv(encoder.conv_in)
        for level in encoder.down:
            level_layers(walk, level)
            if hasattr(level, "downsample"):
                walk.downsample(level.downsample)
        middle_layers(walk, encoder.mid)
        walk.conv(encoder.conv_out, encoder.norm_out)
        if hasattr(model, "quant_conv"):
            walk.conv(model.quant_conv)

    return layers


def decoder_layers(model: Any) -> Layers:
    """Latent -> pixels."""

    def layers(walk: Walk) -> None:
        decoder = model.decoder
        if hasattr(model, "post_quant_conv"):
            walk.conv(model.post_quant_conv)
        walk.conv(decoder.conv_in)
        middle_layers(walk, decoder.mid)
        for level in reversed(decoder.up):
            level_layers(walk, level)
            if hasattr(level, "upsample"):
                walk.upsample(level.upsample)
        walk.conv(decoder.conv_out, decoder.norm_out)

    return layers


def level_layers(walk: Walk, level: Any) -> None:
    for index, block in enumerate(level.block):
        walk.resnet(block)
        if len(level.attn):
            walk.attention(level.attn[index])


def middle_layers(walk: Walk, middle: Any) -> None:
    walk.resnet(middle.block_1)
    walk.attention(middle.attn_1)
    walk.resnet(middle.block_2)


def check_vae(vae: Any) -> Any:
    """The VAE's network, where it is of the family whose layers are known here, or ValueError."""
    model = getattr(vae, "first_stage_model", None)
    if model is None:
        raise ValueError(
            f"`vae` is a {type(vae).__name__} without a network. Connect the VAE of a checkpoint "
            "that has one, or Load VAE."
        )
    known = (
        type(getattr(model, "encoder", None)) is Encoder
        and type(getattr(model, "decoder", None)) is Decoder
        and isinstance(model.encoder.conv_in, torch.nn.Conv2d)
        and vae.downscale_ratio == vae.upscale_ratio == 2 ** (len(model.encoder.down) - 1)
        and not getattr(model.decoder, "give_pre_end", False)
        and all(part.num_groups == GROUPS for part in group_norms(model))
        and all(type(part.mid.attn_1) is AttnBlock for part in (model.encoder, model.decoder))
    )
    if not known:
        raise ValueError(
            f"`vae` is a {type(model).__name__} of another kind than those of SD 1.5, SD 2 and "
            "SDXL, whose layers this node knows. Use core's VAE Encode (Tiled) and VAE Decode "
            "(Tiled) with it."
        )
    return model


def group_norms(model: torch.nn.Module) -> list[torch.nn.GroupNorm]:
    return [part for part in model.modules() if isinstance(part, torch.nn.GroupNorm)]


class Job:
    """One direction of one VAE over a batch: plan, memory, progress, smaller tiles."""

    def __init__(
        self,
        vae: Any,
        what: str,
        layers: Layers,
        widest: int,
        pixels_per_cell: int,
        memory: Callable[[int, int], float],
        prepare: Callable[[Tensor], Tensor] = identity,
    ) -> None:
        """what: the node's name, for messages. widest: channels at full resolution.
        pixels_per_cell: of the input. memory: height and width in pixels -> bytes that the host
        reckons with for a picture of that size. prepare: an input row -> what the layers take."""
        self.vae, self.what, self.layers, self.widest = vae, what, layers, widest
        self.pixels_per_cell, self.memory, self.prepare = pixels_per_cell, memory, prepare

    def run(self, rows: Tensor, tile_size: int) -> Tensor:
        """rows: B C H W. Every image alone. Returns B C' H' W' on the VAE's output device."""
        height, width = (side * self.pixels_per_cell for side in rows.shape[-2:])
        largest = min(tile_size, max(height, width))
        progress = comfy.utils.ProgressBar(1)
        announced, results, tile = 0, [], largest

        def attempt(index: int, size: int) -> Tensor:
            nonlocal announced
            source = self.prepare(rows[index]).to(self.vae.vae_dtype)
            plan = Walk(FeatureMap.of(source), size, self.widest)
            self.layers(plan)
            needed = self.memory(*(min(size + 2 * HALO, side) for side in (height, width)))
            if size != announced:
                announced = size
                grid = f"{len(cuts(width, size))}x{len(cuts(height, size))}"
                announce(
                    f"{self.what}: {width}x{height} pixels in {grid} tiles of "
                    f"{'at most' if size == largest else 'now only'} {size}, about "
                    f"{size_text(needed)} for one, and "
                    f"{size_text(plan.largest * self.vae.vae_dtype.itemsize)} of RAM for the "
                    "feature maps of the whole picture."
                )
            mm.load_models_gpu(
                [self.vae.patcher],
                memory_required=needed,
                force_full_load=self.vae.disable_offload,
            )
            done = index * plan.boxes

            def on_box() -> None:
                nonlocal done
                done += 1
                progress.update_absolute(done, len(rows) * plan.boxes)
                mm.throw_exception_if_processing_interrupted()

            stream = Stream(plan, self.vae.device, self.vae.output_device, on_box)
            self.layers(stream)
            return stream.map.whole()

        for index in range(len(rows)):
            result, tile = with_shrinking_tile(
                lambda size, index=index: attempt(index, size), tile, self.what
            )
            results.append(result)
        return torch.stack(results)


def output_dtype(vae: Any) -> torch.dtype:
    """What the host gives on; from 0.18 on it can be half."""
    chosen = getattr(vae, "vae_output_dtype", None)
    return chosen() if chosen else torch.float32


@torch.no_grad()
def encode_exact(vae: Any, pixels: Tensor, tile_size: int) -> Tensor:
    """`vae.encode` with bounded device memory.

    pixels: B 3 H W in 0..1; cut to multiples of 8 as core does. Returns the latent B C H/8 W/8, in
    the scale of a LATENT.
    """
    model = check_vae(vae)
    cropped = vae.vae_encode_crop_pixels(pixels.movedim(1, -1)).movedim(-1, 1)
    if 0 in cropped.shape:
        raise ValueError(
            f"The picture is {pixels.shape[-1]}x{pixels.shape[-2]}; this VAE needs at least "
            f"{vae.downscale_ratio} pixels a side. Enlarge it first (Prepare Restoration)."
        )
    job = Job(
        vae,
        "VAE Encode (Tiled, Exact)",
        encoder_layers(model),
        model.encoder.conv_in.out_channels,
        1,
        lambda height, width: vae.memory_used_encode((1, 3, height, width), vae.vae_dtype),
        vae.process_input,
    )
    moments = job.run(cropped, tile_size)
    latent = model.regularization(moments)[0]
    return latent.to(vae.output_device, output_dtype(vae))


@torch.no_grad()
def decode_exact(vae: Any, samples: Tensor, tile_size: int) -> Tensor:
    """`vae.decode` with bounded device memory.

    samples: B C H W, in the scale of a LATENT. Returns the picture B 8H 8W 3 in 0..1.
    """
    model = check_vae(vae)
    if samples.ndim != 4 or samples.shape[1] != vae.latent_channels or 0 in samples.shape:
        raise ValueError(
            f"`samples` has the shape {tuple(samples.shape)}; this VAE decodes latents of (batch, "
            f"{vae.latent_channels}, height, width). Use the VAE that belongs to the model."
        )
    ratio = vae.upscale_ratio
    job = Job(
        vae,
        "VAE Decode (Tiled, Exact)",
        decoder_layers(model),
        model.decoder.up[0].block[0].in_channels,
        ratio,
        lambda height, width: vae.memory_used_decode(
            (1, vae.latent_channels, -(-height // ratio), -(-width // ratio)), vae.vae_dtype
        ),
    )
    decoded = job.run(samples, tile_size)
    if model.decoder.tanh_out:
        decoded = decoded.tanh()
    decoded = decoded.to(vae.output_device, output_dtype(vae))
    return vae.process_output(decoded).movedim(1, -1)
