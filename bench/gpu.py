# ruff: noqa: T201
"""On a card: steps, whole restorations, peak memory and the exact VAE, with full-size random weights.

    python bench/gpu.py --out FOLDER               # minutes on a CUDA card
    python bench/gpu.py --out FOLDER --dry         # tiny networks on the CPU: only that it runs

Half precision, times of device events (median of the rounds), memory as PyTorch allocates it. Every
figure is written as soon as it is there, to bench.json, and one that is there is not measured again.
What fails is written with its reason. A whole restoration is the sum of its calls, each measured at
its own size, for one photo of 128x128 and one of 512x512 pixels, four times enlarged; as in
bench/runs.py the text encoder, sizing and colors are left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _asked import Asked, Call
from _measuring import import_pack
from _networks import Networks, Run
from runs import BUILT, NETWORKS, PHOTOS, graphs
from vae import random_vae, variants

HALF = torch.float16
COMPARED = 256
"""Side of the picture that both precisions are compared on, pixels."""
STEPS = (512, 1024)
SIDES = (512, 1024, 2048, 4096)
TILE = 768
"""Of Tiled Restoration, pixels."""
VAE_TILE = 512
WHOLE = "whole"
"""Of bench/vae.py's ways, the one without tiles; it comes first."""
DRY = {"networks": ("plain", "vae", "stage 1"), "side": 64}


class Figures:
    """A JSON file of figures by key, whole after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def take(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The figures of a key: those there are, or what `measure` gives, or why it failed."""
        if key not in self.found:
            started = time.monotonic()
            try:
                figures = measure()
            except Exception as error:  # of any driver or compiler: the file is the place for it
                lines = str(error).splitlines() or [""]
                figures = {"failed": f"{type(error).__name__}: {lines[0]}"[:300]}
            free()
            self.found[key] = figures
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps(self.found, indent=2))
            part.replace(self.path)
            print(f"{key}: {figures} ({time.monotonic() - started:.1f} s)", flush=True)
        return self.found[key]


def free() -> None:
    """What failed or is over gives its memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Clock:
    """Times on one device."""

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.cuda, self.rounds = device.type == "cuda", rounds

    def milliseconds(self, run: Callable[[], object]) -> float:
        """The median of the rounds, after a run to warm up."""
        run()
        return statistics.median(self._once(run) for _ in range(self.rounds))

    def _once(self, run: Callable[[], object]) -> float:
        if not self.cuda:
            start = time.perf_counter()
            run()
            return 1000 * (time.perf_counter() - start)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def peak(self, run: Callable[[], object]) -> int | None:
        """Bytes at the peak of a run, weights included; None where there is no card to ask."""
        if not self.cuda:
            run()
            return None
        free()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()


def compare(networks: Networks, runs: dict[str, Run], side: int) -> dict[str, Any]:
    """What half precision does to the results: the root mean square of the difference, over that of
    the result. Leaves the network in half precision."""

    def results() -> dict[str, torch.Tensor]:
        found = {}
        for name, run in runs.items():
            torch.manual_seed(0)
            if isinstance(result := run(side, side), torch.Tensor):
                found[name] = result.float().cpu()
        return found

    whole = results()
    networks.cast(HALF)
    differences = {}
    for name, half in results().items():
        error = (half - whole[name]).square().mean().sqrt() / whole[name].square().mean().sqrt()
        differences[name] = float(error) if torch.isfinite(half).all() else "not finite"
    return {"relative difference": differences}


def compiled(networks: Networks, run: Run, side: int, clock: Clock, backend: str) -> dict[str, Any]:
    """The same step with its UNet compiled; seconds that compiling took."""
    (unet,) = networks.unets
    plain, started = unet.forward, time.monotonic()
    try:
        unet.forward = torch.compile(plain, backend=backend)
        once = partial(run, side, side)
        once()
        took = time.monotonic() - started
        return {"ms": clock.milliseconds(once), "compile seconds": took}
    finally:
        unet.forward = plain
        torch._dynamo.reset()  # pyright: ignore[reportPrivateUsage]


def all_calls(photos: tuple[int, ...]) -> dict[tuple[int, str], Asked]:
    """What every whole restoration asks of the networks."""
    return {
        (photo, title): Asked(graph, (photo, photo))
        for photo in photos
        for title, graph in graphs().items()
    }


def measure_networks(figures: Figures, networks: Networks, clock: Clock, dry: bool) -> None:
    """Precision, steps, compiled steps, peak memory, and every call of every whole restoration."""
    calls = set() if dry else {c for each in all_calls(PHOTOS).values() for c in each.calls}
    for name in DRY["networks"] if dry else NETWORKS:
        if (done := f"{name}: all measured") not in figures.found:
            _measure(figures, networks, clock, name, calls)
            figures.take(done, dict)


def _measure(
    figures: Figures, networks: Networks, clock: Clock, name: str, calls: set[Call]
) -> None:
    """One network, of which nothing is left afterwards."""
    dry = networks.tiny
    side, steps = (DRY["side"], (DRY["side"],)) if dry else (COMPARED, STEPS)
    runs: dict[str, Run] = {}
    if "failed" in figures.take(f"{name}: built", lambda: _build(networks, name, runs)):
        return
    if not runs:  # it was built before an interruption
        _build(networks, name, runs)
    figures.take(f"{name}: half precision", lambda: compare(networks, runs, side))
    networks.cast(HALF)
    for key, once in _calls(runs, calls, BUILT.get(name, name), steps):
        figures.take(key, lambda once=once: {"ms": clock.milliseconds(once)})
    if name == "plain":
        backend = "eager" if dry else "inductor"
        figures.take(
            f"plain, compiled, {steps[0]}",
            lambda: compiled(networks, runs["plain"], steps[0], clock, backend),
        )
    for each in ("plain", "encode", "decode"):
        if each in runs:
            _memory(figures, clock, each, runs[each], dry)


def _build(networks: Networks, name: str, runs: dict[str, Run]) -> dict[str, Any]:
    started = time.monotonic()
    free()
    runs |= networks.build(name)
    return {"seconds": time.monotonic() - started}


def _calls(
    runs: dict[str, Run], calls: set[Call], first: str, steps: tuple[int, ...]
) -> Iterator[tuple[str, Callable[[], object]]]:
    """(key, what to time), large ones last."""
    wanted = {Call(first, side, side) for side in steps} | calls
    for call in sorted(wanted, key=lambda c: (c.height * c.width, c.network)):
        if call.network in runs:
            yield key_of(call), partial(runs[call.network], call.height, call.width)


def key_of(call: Call) -> str:
    return f"{call.network}, {call.width}x{call.height}"


def _memory(figures: Figures, clock: Clock, name: str, run: Run, dry: bool) -> None:
    for side in (DRY["side"],) if dry else SIDES:
        once = partial(run, side, side)
        figures.take(f"memory: {name}, whole, {side}", lambda once=once: _peak(clock, once))
    if name == "plain" and not dry:
        once = partial(run, TILE, TILE)
        figures.take(f"memory: plain, in tiles of {TILE}", lambda: _peak(clock, once))


def _peak(clock: Clock, run: Callable[[], object]) -> dict[str, Any]:
    return {"bytes": clock.peak(run)}


def measure_vae(figures: Figures, clock: Clock, dry: bool) -> None:
    """The exact tiled VAE beside the host's whole and tiled ones, through the host's own object."""
    vae = random_vae(32 if dry else 128)
    sides, tile = ((DRY["side"],), DRY["side"] // 2) if dry else (SIDES, VAE_TILE)
    for side in sides:
        for direction, runs in variants(vae, side, tile).items():
            _variants(figures, clock, f"VAE: {direction}", side, runs)


def _variants(
    figures: Figures, clock: Clock, title: str, side: int, runs: dict[str, Callable[[], Any]]
) -> None:
    """Every way of one direction, the whole VAE first, which the others are held to unless it failed."""
    results: dict[str, torch.Tensor] = {}

    def result(name: str) -> torch.Tensor:
        if name not in results:
            results[name] = runs[name]().float().cpu()
        return results[name]

    def measure(name: str) -> dict[str, Any]:
        peak = clock.peak(lambda: result(name))
        found: dict[str, Any] = {"ms": clock.milliseconds(runs[name]), "bytes": peak}
        if name != WHOLE and "failed" not in figures.found[f"{title}, {WHOLE}, {side}"]:
            # which is run once more where an interruption came after it
            difference = results.pop(name) - result(WHOLE)
            found["largest difference to the whole"] = float(difference.abs().max())
        return found

    for name in runs:
        figures.take(f"{title}, {name}, {side}", partial(measure, name))


def whole_runs(found: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """(title, seconds) of every restoration whose calls were all measured."""
    for (photo, title), asked in all_calls(PHOTOS).items():
        times = [(found.get(key_of(c), {}).get("ms"), n) for c, n in asked.calls.items()]
        if all(ms is not None for ms, _ in times):
            yield f"run: {title}, {photo}", sum(ms * n for ms, n in times) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="What the methods cost on a card.")
    parser.add_argument("--out", type=Path, required=True, help="folder of bench.json")
    parser.add_argument("--dry", action="store_true", help="tiny networks on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--host", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    import_pack(options.host, cpu=options.dry)
    measure_all(options.out, options.dry, options.rounds)


@torch.inference_mode()
def measure_all(out: Path, dry: bool, rounds: int) -> None:
    """Everything, into bench.json of a folder. The host is imported."""
    device = torch.device("cpu" if dry else "cuda")
    figures, clock = Figures(out / "bench.json"), Clock(device, rounds)
    measure_networks(figures, Networks(device.type, tiny=dry), clock, dry)
    if not dry:
        for key, seconds in whole_runs(figures.found):
            figures.take(key, lambda seconds=seconds: {"seconds": seconds})
    measure_vae(figures, clock, dry)


if __name__ == "__main__":
    main()
