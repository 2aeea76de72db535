# ruff: noqa: T201
"""The exact tiled VAE beside the host's whole and tiled ones: error, peak memory and time.

    python bench/vae.py                              # 512x512 pixels, tiles of 256
    python bench/vae.py --sides 512 1024 2048 --channels 32 --tile 256

Stable Diffusion's VAE (83.7 M parameters; with --channels 32 a sixteenth of the work) with random
weights, float32, on the CPU, through the host's own VAE object. Errors are against the whole VAE.
Time is process CPU time of one thread. Memory is the peak of what PyTorch allocates, traced, over
what was held before the run; on a card the feature maps would lie in RAM and the rest on the card,
so the largest map is told apart. Differences in time under 5 % cannot be resolved this way.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from _measuring import import_pack
from torch import Tensor
from torch.autograd.profiler import profile

ROOT = Path(__file__).resolve().parent.parent
OVERLAP = 64
"""Pixels; the default of core's tiled nodes, which take a quarter of the tile where that is less."""


def random_vae(channels: int) -> Any:
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": channels,
        "ch_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    network = AutoencoderKL(ddconfig=config, embed_dim=4)
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        else:
            parameter.fill_(1.0 if name.endswith(".weight") else 0.0)
    params = {"ddconfig": config, "embed_dim": 4}
    return comfy.sd.VAE(sd=network.state_dict(), config={"params": params})


def picture(side: int) -> Tensor:
    """Coarse and fine structure whose strength changes over the picture, as in a photo."""
    torch.manual_seed(1)
    coarse = torch.randn(1, 3, 5, 5)
    fine = torch.randn(1, 3, side, side) * torch.linspace(0.1, 1.5, side)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return (2 * smooth + fine).sigmoid().movedim(1, -1)


def measured(run: Callable[[], Tensor], rounds: int) -> tuple[Tensor, float, float]:
    """Result, median seconds of CPU time, GiB of tensors at the peak over what was held before."""
    seconds, result, peak = [], torch.empty(0), 0
    for _ in range(rounds):
        del result
        trace: Any  # whose results are typed as if they could be missing here
        with profile(profile_memory=True) as trace:
            start = time.process_time()
            result = run()
            seconds.append(time.process_time() - start)
        traced = trace.kineto_results.events()
        events = [event for event in traced if event.name() == "[memory]"]
        events.sort(key=lambda event: event.start_ns())
        peak = max(peak, *accumulate(event.nbytes() for event in events))
    return result, statistics.median(seconds), peak / 2**30


def compare(vae: Any, side: int, tile: int, rounds: int, only: list[str] | None) -> None:
    from restoration.host import exact_vae as exact

    pixels = picture(side)
    latent = torch.nn.functional.interpolate(pixels.movedim(-1, 1), (side // 8, side // 8))
    latent = torch.cat([latent, latent[:, :1]], 1) * 6 - 3
    overlap = min(OVERLAP, tile // 4)
    variants: dict[str, dict[str, Callable[[], Tensor]]] = {
        "encode": {
            "whole": lambda: vae.encode(pixels),
            "core's tiles": lambda: vae.encode_tiled(
                pixels, tile_x=tile, tile_y=tile, overlap=overlap
            ),
            "exact tiles": lambda: exact.encode_exact(vae, pixels.movedim(-1, 1), tile),
        },
        "decode": {
            "whole": lambda: vae.decode(latent),
            "core's tiles": lambda: vae.decode_tiled(
                latent, tile_x=tile // 8, tile_y=tile // 8, overlap=overlap // 8
            ),
            "exact tiles": lambda: exact.decode_exact(vae, latent, tile),
        },
    }
    model = vae.first_stage_model
    plans = {
        "encode": (exact.encoder_layers(model), pixels[0].movedim(-1, 0), model.encoder.conv_in),
        "decode": (exact.decoder_layers(model), latent[0], model.decoder.up[0].block[0]),
    }
    for direction, runs in variants.items():
        layers, source, widest = plans[direction]
        channels = widest.out_channels if direction == "encode" else widest.in_channels
        plan = exact.LayerPlan(exact.FeatureMap.of(source), tile, channels)
        layers(plan)
        truth, reference = None, 0.0
        for name, run in runs.items():
            if only and name.split()[0] not in only:
                continue
            result, seconds, memory = measured(run, rounds)
            line = f"{direction} {side}x{side}, {name:>12}: {seconds:7.1f} s, {memory:5.2f} GiB"
            if name == "whole":
                truth, reference = result, seconds
            elif truth is not None:
                error = (result - truth).abs()
                line += (
                    f", time x{seconds / reference:.2f}, "
                    f"error max {error.max():.1e} mean {error.mean():.1e}"
                )
            if name == "exact tiles":
                line += f", largest map {plan.largest * 4 / 2**30:.2f} GiB"
            print(line, flush=True)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description="The exact tiled VAE beside the host's own.")
    parser.add_argument("--sides", type=int, nargs="+", default=[512], help="pixels")
    parser.add_argument("--tile", type=int, default=256, help="pixels")
    parser.add_argument("--channels", type=int, default=128, help="of the first level; SD has 128")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=["whole", "core's", "exact"])
    parser.add_argument("--host", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    options = parser.parse_args()
    import_pack(options.host)
    torch.set_num_threads(1)
    vae = random_vae(options.channels)
    vae.encode(picture(64))  # warm-up
    vae.decode(torch.randn(1, 4, 8, 8))
    print(f"{options.channels} channels, tiles of {options.tile}, torch {torch.__version__}")
    for side in options.sides:
        compare(vae, side, options.tile, options.rounds, options.only)


if __name__ == "__main__":
    main()
