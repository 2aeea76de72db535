# ruff: noqa: T201
"""What SeeSR costs: one step with it over one step of the plain UNet, and its tagger beside them.

    python bench/seesr.py                     # latent 32x32, 5 rounds
    python bench/seesr.py --latent 64 --rounds 3

Full-size Stable Diffusion 2 UNet, control network, RCAs and tagger with random weights, float32,
through the real host's conditioning batch (about 9 GB of memory). Process CPU time of one thread,
the variants interleaved in every round, PyTorch attention; the median over the rounds with its
range. Ratios are taken within a round. Beside each ratio stands that of the floating-point
operations: what SeeSR must cost at least. Every step counted here also encodes the photo, which a
run does once. Differences under 5 % cannot be resolved this way.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _measuring import import_pack, measure, operations, randomize, with_range

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ROOT / "tests" / "golden" / "seesr"
AUTHORS = {32: (2.03, 1.04), 64: (2.27, 1.12)}
"""Latent side: the authors' own code, step over plain step, and that over the ratio of the
operations; measured in the same way."""


def published(name: str, *groups: str) -> dict[str, torch.Tensor]:
    """The keys and shapes of a published file; the values take no memory."""
    found = json.loads((MANIFESTS / f"manifest_{name}.json").read_text())["groups"]
    zero = torch.zeros(())
    return {
        key: zero.expand(shape)
        for group in groups
        for key, (shape, kind) in found[group].items()
        if kind == "float"
    }


def tagger() -> Any:
    """DAPE_MODEL of full size."""
    from restoration.tagger.config import RAM
    from restoration.tagger.load import build_tagger
    from restoration.tagger.tags import TagList

    names = tuple(f"tag {i}" for i in range(RAM.labels))
    tags = TagList(names, torch.full((RAM.labels,), 0.65))
    model = build_tagger(published("ram_swin_large_14m", "inference"), tags)
    randomize(model.network)
    return model


def steps(side: int) -> dict[str, Callable[[], object]]:
    """One sampling step of each kind, and one picture through the tagger."""
    from restoration.seesr.attach import apply_seesr
    from restoration.seesr.config import SD2
    from restoration.seesr.load import seesr_model
    from restoration.tagger.run import run_tagger
    from restoration.tests.host.networks import call_model, conditioning, empty_unet

    model = empty_unet(SD2.unet_config())
    randomize(model.model.diffusion_model)
    networks, _ = seesr_model(
        published("seesr_unet", "added"), published("seesr_controlnet", "added", "base")
    )
    randomize(networks.control.model)
    randomize(networks.rca.model)

    dape, photo = tagger(), torch.rand(1, 3, 2 * side, 2 * side)

    def tag() -> Any:
        return run_tagger(dape, photo, lambda tags, logits: tags.text(logits), False)[1]

    patched = apply_seesr(model, networks, torch.rand(1, 8 * side, 8 * side, 3), tag(), 1.0, 0, 1)
    x, timestep = torch.randn(1, 4, side, side), torch.tensor([500])
    text = conditioning(torch.randn(1, 77, SD2.context_dim))
    return {
        "plain": lambda: call_model(model, x, timestep, text),
        "seesr": lambda: call_model(patched, x, timestep, text),
        "tagger": tag,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a step with SeeSR, and of its tagger.")
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
        print(f"{name:>7}: {with_range(seconds[name])} s, {work[name] / 1e9:.0f} GFLOP")
    for name in ("seesr", "tagger"):
        ratios = [s / p for s, p in zip(seconds[name], seconds["plain"], strict=True)]
        least = work[name] / work["plain"]
        over = statistics.median(ratios) / least
        print(f"{name} / plain: {with_range(ratios)}; operations {least:.2f}; over {over:.2f}")
    if options.latent in AUTHORS:
        ratio, over = AUTHORS[options.latent]
        print(f"the authors' code: {ratio:.2f}; over the operations {over:.2f}")


if __name__ == "__main__":
    main()
