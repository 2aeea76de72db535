# ruff: noqa: T201
"""The exact tiled VAE beside the host's whole and tiled ones: error, peak memory and time.

    python bench/vae.py                              # 512x512 pixels, tiles of 256
    python bench/vae.py --sides 512 1024 2048 --channels 32 --tile 256

Stable Diffusion's VAE (83.7 M parameters; with --channels 32 a sixteenth of the work) with random
weights, float32, on the CPU, through the host's own VAE object. Errors are against the whole VAE.
Time is process CPU time of one thread, the variants in turn; ratios are taken within a round. Memory
is the peak of what PyTorch allocates, traced, over what was held before the run; on a card the
feature maps would lie in RAM, as much as the line of the plan says, and the rest on the card.
Differences in time under 5 % cannot be resolved this way.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from _measuring import import_pack, with_range
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


def measured(run: Callable[[], Tensor]) -> tuple[Tensor, float, float]:
    """Result, seconds of CPU time, GiB of tensors at the peak over what was held before."""
    trace: Any  # whose results are typed as if they could be missing here
    with profile(profile_memory=True) as trace:
        start = time.process_time()
        result = run()
        seconds = time.process_time() - start
    traced = trace.kineto_results.events()
    events = [event for event in traced if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return result, seconds, max(0, *accumulate(event.nbytes() for event in events)) / 2**30


def variants(vae: Any, side: int, tile: int) -> dict[str, dict[str, Callable[[], Tensor]]]:
    """Direction and name -> what it does with the same picture."""
    from restoration.host import exact_vae as exact

    pixels = picture(side)
    latent = torch.nn.functional.interpolate(pixels.movedim(-1, 1), (side // 8, side // 8))
    latent = torch.cat([latent, latent[:, :1]], 1) * 6 - 3
    overlap = min(OVERLAP, tile // 4)
    return {
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


def compare(vae: Any, side: int, tile: int, rounds: int, only: list[str] | None) -> None:
    """The variants in turn, `rounds` times; times over the whole VAE's within a round."""
    for direction, runs in variants(vae, side, tile).items():
        chosen = {n: run for n, run in runs.items() if not only or n.split()[0] in only}
        seconds: dict[str, list[float]] = {name: [] for name in chosen}
        results, memory = {}, dict.fromkeys(chosen, 0.0)
        for _ in range(rounds):
            for name, run in chosen.items():
                results[name], spent, peak = measured(run)
                seconds[name].append(spent)
                memory[name] = max(memory[name], peak)
        for name in chosen:
            line = f"{direction} {side}x{side}, {name:>12}: {with_range(seconds[name])} s"
            line += f", {memory[name]:.2f} GiB"
            if name != "whole" and "whole" in chosen:
                ratios = [s / w for s, w in zip(seconds[name], seconds["whole"], strict=True)]
                error = (results[name] - results["whole"]).abs()
                line += (
                    f", time x{with_range(ratios)}, "
                    f"error max {error.max():.1e} mean {error.mean():.1e}"
                )
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
