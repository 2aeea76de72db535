"""The VAE in tiles, with the numbers of the whole: one layer after the other over the picture.

A tiled VAE differs from the whole one in three places: the zero padding of its convolutions, which
must stand at the borders of the picture and not of the tile; the statistics of its group
normalizations, which belong to the picture; and the attention in its middle, which sees all of it.
So no tile goes through the network. Every layer goes over the picture in boxes, reads the cells
around a box that its convolutions reach, and leaves its map and that map's statistics to the next
(`boxed_layers`). The maps lie in host memory; the device holds one box at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.utils
import torch
from comfy import model_management as mm
from comfy.ldm.modules.diffusionmodules.model import AttnBlock, Decoder, Encoder
from torch import Tensor

from ..common.feature_map import FeatureMap, cuts
from .boxed_layers import GROUPS, HALO, BoxedLayers, LayerPlan, LayerRun, Values, identity
from .memory import with_shrinking_tile
from .report import announce, size_text

Layers = Callable[[BoxedLayers], None]
"""Takes a map through all layers of one direction."""


def encoder_layers(model: Any) -> Layers:
    """Pixels -> mean and log variance of the latent."""

    def layers(boxed: BoxedLayers) -> None:
        encoder = model.encoder
        boxed.conv(encoder.conv_in)
        for level in encoder.down:
            level_layers(boxed, level)
            if hasattr(level, "downsample"):
                boxed.downsample(level.downsample)
        middle_layers(boxed, encoder.mid)
        boxed.conv(encoder.conv_out, encoder.norm_out)
        if hasattr(model, "quant_conv"):
            boxed.conv(model.quant_conv)

    return layers


def decoder_layers(model: Any) -> Layers:
    """Latent -> pixels."""

    def layers(boxed: BoxedLayers) -> None:
        decoder = model.decoder
        if hasattr(model, "post_quant_conv"):
            boxed.conv(model.post_quant_conv)
        boxed.conv(decoder.conv_in)
        middle_layers(boxed, decoder.mid)
        for level in reversed(decoder.up):
            level_layers(boxed, level)
            if hasattr(level, "upsample"):
                boxed.upsample(level.upsample)
        boxed.conv(decoder.conv_out, decoder.norm_out)

    return layers


def level_layers(boxed: BoxedLayers, level: Any) -> None:
    for index, block in enumerate(level.block):
        boxed.resnet(block)
        if len(level.attn):
            boxed.attention(level.attn[index])


def middle_layers(boxed: BoxedLayers, middle: Any) -> None:
    boxed.resnet(middle.block_1)
    boxed.attention(middle.attn_1)
    boxed.resnet(middle.block_2)


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


@dataclass(frozen=True)
class VAEDirection:
    """Encoding or decoding of one VAE: plan, memory, progress, smaller tiles."""

    vae: Any
    what: str
    """The node's name, for messages."""
    layers: Layers
    widest: int
    """Channels at full resolution."""
    pixels_per_cell: int
    """Pixels of the input in a cell of the latent, along one axis."""
    memory: Callable[[int, int], float]
    """Height and width in pixels -> bytes that the host reckons with for such a picture."""
    prepare: Values = identity
    """An input row -> what the layers take."""

    def run(self, rows: Tensor, tile_size: int) -> Tensor:
        """rows: B C H W. Every image alone. Returns B C' H' W' on the VAE's output device."""
        height, width = (side * self.pixels_per_cell for side in rows.shape[-2:])
        largest = min(tile_size, max(height, width))
        progress = comfy.utils.ProgressBar(1)
        announced, results, tile = 0, [], largest
        room = room_for_maps(self.vae)

        def attempt(index: int, size: int) -> Tensor:
            nonlocal announced
            source = self.prepare(rows[index]).to(self.vae.vae_dtype)
            plan = LayerPlan(FeatureMap.of(source), size, self.widest, room)
            self.layers(plan)
            needed = self.memory(*(min(size + 2 * HALO, side) for side in (height, width)))
            if size != announced:
                announced = size
                grid = f"{len(cuts(width, size))}x{len(cuts(height, size))}"
                announce(
                    f"{self.what}: {width}x{height} pixels in {grid} tiles of "
                    f"{'at most' if size == largest else 'now only'} {size}, about "
                    f"{size_text(needed)} for one, and "
                    f"{size_text(plan.peak * self.vae.vae_dtype.itemsize)} of RAM for the "
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

            run = LayerRun(plan, self.vae.device, self.vae.output_device, on_box)
            self.layers(run)
            return run.map.whole()

        for index in range(len(rows)):
            result, tile = with_shrinking_tile(
                lambda size, index=index: attempt(index, size), tile, self.what
            )
            results.append(result)
        return torch.stack(results)


def room_for_maps(vae: Any) -> int:
    """How many values of feature maps may be stored to save time. Half of what is free: pictures and
    other programs want memory too while this runs."""
    return int(mm.get_free_memory(vae.output_device) / 2 / vae.vae_dtype.itemsize)


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
    direction = VAEDirection(
        vae,
        "VAE Encode (Tiled, Exact)",
        encoder_layers(model),
        model.encoder.conv_in.out_channels,
        1,
        lambda height, width: vae.memory_used_encode((1, 3, height, width), vae.vae_dtype),
        vae.process_input,
    )
    moments = direction.run(cropped, tile_size)
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
    direction = VAEDirection(
        vae,
        "VAE Decode (Tiled, Exact)",
        decoder_layers(model),
        model.decoder.up[0].block[0].in_channels,
        ratio,
        lambda height, width: vae.memory_used_decode(
            (1, vae.latent_channels, -(-height // ratio), -(-width // ratio)), vae.vae_dtype
        ),
    )
    decoded = direction.run(samples, tile_size)
    if model.decoder.tanh_out:
        decoded = decoded.tanh()
    decoded = decoded.to(vae.output_device, output_dtype(vae))
    return vae.process_output(decoded).movedim(1, -1)
