# ruff: noqa: T201
"""What PASD costs: one step with it over one step of the plain UNet, in time and in memory.

    python bench/pasd.py                     # latent 32x32, 5 rounds
    python bench/pasd.py --latent 64 --rounds 3 --kind pasd

Full-size Stable Diffusion 1.5 UNet and PASD networks with random weights, float32, through the real
host's conditioning batch (about 10 GB of memory, 6 with one kind). Process CPU time of one thread, the variants
interleaved in every round, PyTorch attention; the median over the rounds with its range. Ratios are
taken within a round. Beside each ratio stands that of the floating-point operations: what PASD must
cost at least. Differences under 5 % cannot be resolved this way.

The picture is encoded once a run, not at every step: the steps timed come after it, and it has
lines of its own. Memory is the most that a step holds beside the weights, as PyTorch counts it.
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
MANIFESTS = ROOT / "tests" / "golden" / "pasd"
KINDS = {
    "pasd": ("unet_pasd", "controlnet"),
    "pasd, rrdb": ("unet_pasd", "controlnet_rrdb"),
    "light": ("unet_pasd_light", "controlnet"),
}
"""Manifests of a release's two files."""
AUTHORS = {32: {"pasd": 1.73, "pasd, rrdb": 1.86}, 64: {"pasd": 1.96, "pasd, rrdb": 2.24}}
"""Latent side: the authors' own code, step over plain step, measured in the same way."""

Step = Callable[[], object]


def published(name: str, *groups: str) -> dict[str, torch.Tensor]:
    """The keys and shapes of a published file; the values take no memory."""
    found = json.loads((MANIFESTS / f"manifest_{name}.json").read_text())["groups"]
    zero = torch.zeros(())
    return {key: zero.expand(shape) for group in groups for key, (shape, _) in found[group].items()}


def open_run(model: Any, x: torch.Tensor, text: torch.Tensor) -> Step:
    """A step of a sampling run that is not closed: what the run keeps is kept from step to step.

    x: 1 4 h w in the variance-preserving scale.
    """
    import comfy.model_patcher
    import comfy.sampler_helpers
    import comfy.samplers

    from restoration.tests.host.networks import conditioning, sigmas_of

    sigma = sigmas_of(model, torch.tensor([500]))
    noisy = x * (1 + sigma**2).sqrt()
    conds = {"positive": comfy.sampler_helpers.convert_cond(conditioning(text))}
    options = comfy.model_patcher.create_model_options_clone(model.model_options)
    options["transformer_options"]["sample_sigmas"] = sigma
    comfy.sampler_helpers.prepare_model_patcher(model, conds, options)
    inner, conds, _ = comfy.sampler_helpers.prepare_sampling(model, x.shape, conds, options)
    model.pre_run()
    rows = list(comfy.samplers.process_conds(inner, noisy, conds, x.device).values())
    return lambda: comfy.samplers.calc_cond_batch(inner, rows, noisy, sigma, options)


def steps(side: int, kinds: list[str]) -> tuple[dict[str, Step], dict[str, Step]]:
    """(one sampling step, plain and of each kind; what encodes the picture of each kind)."""
    from restoration.pasd.attach import apply_pasd
    from restoration.pasd.keys import config_from
    from restoration.pasd.load import pasd_model
    from restoration.tests.host.networks import empty_unet

    config = config_from(published("controlnet", "base"))
    model = empty_unet(config.unet_config())
    randomize(model.model.diffusion_model)
    picture = torch.rand(1, 8 * side, 8 * side, 3)
    x, text = torch.randn(1, 4, side, side), torch.randn(1, 77, config.context_dim)
    sampling: dict[str, Step] = {"plain": open_run(model, x, text)}
    encoding: dict[str, Step] = {}
    for name in kinds:
        unet, control = KINDS[name]
        pasd = pasd_model(published(unet, "added"), published(control, "added", "base"))
        for patcher in (pasd.encoder, pasd.control, pasd.attention):
            randomize(patcher.model)
        sampling[name] = open_run(apply_pasd(model, pasd, picture, 1.0, 0.0, 1.0), x, text)
        encoder = pasd.encoder.model
        encoding[name] = lambda encoder=encoder: encoder(picture.movedim(-1, 1))
    return sampling, encoding


def held(step: Step) -> int:
    """Bytes: the most that was allocated at once during a step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    now, most = 0, 0
    recorded: Any = profiler.profiler
    for event in sorted(recorded.kineto_results.events(), key=lambda each: each.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a step with PASD, in time and memory.")
    parser.add_argument("--latent", type=int, default=32, help="side of the latent, in cells")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--host", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    options = parser.parse_args()
    import_pack(options.host)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)

    sampling, encoding = steps(options.latent, options.kind)
    for step in sampling.values():
        step()  # loads, and encodes the picture
    work = {name: operations(step) for name, step in sampling.items()}
    memory = {name: held(step) for name, step in sampling.items()}
    both = sampling | {f"{name}: encoder": step for name, step in encoding.items()}
    seconds = measure(both, options.rounds)
    print(
        f"latent {options.latent}x{options.latent}, float32, one thread, torch {torch.__version__}"
    )
    for name in sampling:
        print(
            f"{name:>10}: {with_range(seconds[name])} s, {work[name] / 1e9:.0f} GFLOP, "
            f"{memory[name] / 2**20:.0f} MiB"
        )
    for name in encoding:
        plain = seconds["plain"]
        ratios = [s / p for s, p in zip(seconds[name], plain, strict=True)]
        least, room = work[name] / work["plain"], memory[name] / memory["plain"]
        over = statistics.median(ratios) / least
        authors = AUTHORS.get(options.latent, {}).get(name)
        beside = f" (the authors' code: {authors})" if authors else ""
        print(
            f"{name} / plain: {with_range(ratios)}{beside}; operations {least:.2f}; over "
            f"{over:.2f}; memory {room:.2f}"
        )
        once = [e / p for e, p in zip(seconds[f"{name}: encoder"], plain, strict=True)]
        print(f"    encoder, once a run, in plain steps: {with_range(once)}")


if __name__ == "__main__":
    main()
