# ruff: noqa: T201
"""What DiffBIR's control costs: one step with it over one step of the plain UNet.

    python bench/diffbir.py                     # latent 32x32, 5 rounds
    python bench/diffbir.py --latent 64 --rounds 3

Full-size Stable Diffusion 2.1 UNet and control network with random weights, float32, through the
real host's conditioning batch (about 6 GB of memory). Process CPU time of one thread, the variants
interleaved in every round, PyTorch attention; the median over the rounds with its range. Ratios are
taken within a round. Beside each ratio stands that of the floating-point operations: what the
control must cost at least. Differences under 5 % cannot be resolved this way.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _measuring import import_pack, measure, operations, randomize, with_range

ROOT = Path(__file__).resolve().parent.parent

SD21_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "model_channels": 320,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attention_resolutions": [4, 2, 1],
    "transformer_depth": 1,
    "num_head_channels": 64,
    "context_dim": 1024,
    "use_linear_in_transformer": True,
}
AUTHORS = {32: (1.34, 1.01), 64: (1.40, 1.05)}
"""Latent side: the authors' own code, step over plain step, and that over the ratio of the
operations; measured in the same way."""


def steps(side: int) -> dict[str, Callable[[], object]]:
    """One sampling step of each kind; `cfg` runs both prompts in one batch."""
    from restoration.diffbir.attach import attach_control
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control
    from restoration.tests.host.networks import (
        call_model,
        conditioning,
        empty_unet,
        ldm_unet_config,
    )

    model = empty_unet(ldm_unet_config(SD21_UNET))
    randomize(model.model.diffusion_model)
    control = diffbir_control({key: torch.zeros(shape) for key, shape in layout().items()})
    randomize(control.control_model)

    x, timestep = torch.randn(1, 4, side, side), torch.tensor([500])
    hint = torch.randn(1, 4, side, side)
    plain = [conditioning(torch.randn(1, 77, 1024)) for _ in range(2)]
    controlled = attach_control(plain, lambda: control.copy().set_latent_hint(hint))
    return {
        "plain": lambda: call_model(model, x, timestep, plain[0]),
        "control": lambda: call_model(model, x, timestep, controlled[0]),
        "plain, cfg": lambda: call_model(model, x, timestep, *plain),
        "control, cfg": lambda: call_model(model, x, timestep, *controlled),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a step with DiffBIR's control.")
    parser.add_argument("--latent", type=int, default=32, help="side of the latent, in cells")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--host", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    options = parser.parse_args()
    import_pack(options.host)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)

    variants = steps(options.latent)
    work = {name: operations(step) for name, step in variants.items()}
    seconds = measure(variants, options.rounds)
    print(
        f"latent {options.latent}x{options.latent}, float32, one thread, torch {torch.__version__}"
    )
    for name in variants:
        print(f"{name:>14}: {with_range(seconds[name])} s, {work[name] / 1e9:.0f} GFLOP")
    for suffix in ("", ", cfg"):
        plain, control = f"plain{suffix}", f"control{suffix}"
        ratios = [c / p for c, p in zip(seconds[control], seconds[plain], strict=True)]
        least = work[control] / work[plain]
        over = statistics.median(ratios) / least
        print(f"{control} / {plain}: {with_range(ratios)}; operations {least:.2f}; over {over:.2f}")
    if options.latent in AUTHORS:
        ratio, over = AUTHORS[options.latent]
        print(f"the authors' code, cfg 1: {ratio:.2f}; over the operations {over:.2f}")


if __name__ == "__main__":
    main()
