# ruff: noqa: T201
"""Who pays what for a photo: a whole restoration by every method and preset, side by side.

    python bench/runs.py                # operations, counted on the meta device: a minute or two
    python bench/runs.py --time         # time on the CPU instead: some minutes, 12 GB of memory

Steps, guidance, tiles and sizes are read off the graphs of the recipes, as the Restore nodes run
them with their defaults; every network is of full size, with random weights. Operations are counted
(multiplications and additions, 2 for each of a GMAC), for one photo of 128x128 and one of 512x512
pixels, four times enlarged. Time is the process CPU time of one thread, float32: of one row through
each network over a picture of --side pixels, in calls of the plain Stable Diffusion 2.1 UNet that run
in turn with it (median of the ratios), times the rows of a run without tiles, so that nobody waits
for 50 steps; that PASD works at 768 pixels or more is not in it. The VAE in tiles counts as the whole one (bench/vae.py says
what tiles add). Left out: the text encoder (once a prompt), sizing and colors. Quality is not measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _asked import Asked, Call, Graph, defaults
from _measuring import import_pack, measure, operations, with_range
from _networks import Networks

ROOT = Path(__file__).resolve().parent.parent
FACTOR = 4
PHOTOS = (128, 512)
"""Sides of the photos whose operations are counted."""


class Case(NamedTuple):
    """One line of the table."""

    title: str
    node: str
    """A Restore node's id."""
    settings: dict[str, Any] = {}  # noqa: RUF012
    given: tuple[str, ...] = ()
    """Optional sockets that are connected."""


CASES = (
    Case("DiffBIR v2.1, authors", "RestoreWithDiffBIR", {"version": "v2.1"}),
    Case("DiffBIR v2.1, fast", "RestoreWithDiffBIR", {"version": "v2.1", "speed": "fast"}),
    Case("DiffBIR v2, authors", "RestoreWithDiffBIR", {"version": "v2"}),
    Case("DiffBIR v2, fast", "RestoreWithDiffBIR", {"version": "v2", "speed": "fast"}),
    Case("PASD, authors", "RestoreWithPASD"),
    Case("PASD, fast", "RestoreWithPASD", {"speed": "fast"}),
    Case("PASD, LCM-LoRA", "RestoreWithPASD", {"version": "pasd_lcm"}),
    Case("SeeSR, authors", "RestoreWithSeeSR"),
    Case("SeeSR, fast", "RestoreWithSeeSR", {"speed": "fast"}),
    Case("SeeSR-Turbo", "RestoreWithSeeSR", {"version": "seesr_turbo"}),
    Case("OSEDiff", "RestoreWithOSEDiff", given=("dape_model",)),
    Case("OSEDiff, own words", "RestoreWithOSEDiff"),
    Case("PiSA-SR", "RestoreWithPiSASR"),
    Case("PiSA-SR, two dials", "RestoreWithPiSASR", {"lambda_sem": 0.7}),
    Case("PiSA-SR, TAESD decodes", "RestoreWithPiSASR", given=("decode_vae",)),
)


def graphs() -> dict[str, Graph]:
    """By title: the recipe of every case, and the workflow that needs no diffusion."""
    from restoration.nodes.restore import NODES

    kinds = {each.define_schema().node_id: each for each in NODES}
    found = {}
    for case in CASES:
        node = kinds[case.node]
        sockets = [
            each.id
            for each in node.define_schema().inputs
            if not hasattr(each, "default") and (not each.optional or each.id in case.given)
        ]
        widgets = defaults(node) | {"upscale_by": FACTOR} | case.settings
        found[case.title] = node.graph(**{name: name for name in sockets}, **widgets)
    quick = json.loads((ROOT / "workflows" / "api" / "quick_restore.json").read_text("utf-8"))
    for node in quick.values():
        if node["class_type"] == "RestorationEnlarge":
            node["inputs"]["upscale_by"] = FACTOR
    return found | {"Quick restore": quick}


def part_of(call: str) -> str:
    """Column of the table."""
    if call.startswith("decode") or call == "encode":
        return "VAE"
    if call in ("tagger", "stage 1", "enlarge"):
        return "tagger or stage 1"
    return "sampling"


COLUMNS = ("sampling", "VAE", "tagger or stage 1")
BUILT = {"vae": "encode", "taesd": "decode, TAESD"}
"""Builders whose name is not that of a call."""
NETWORKS = (
    "plain",
    "diffbir",
    "pasd",
    "seesr",
    "dials",
    "vae",
    "taesd",
    "tagger",
    "stage 1",
    "enlarge",
)


def runs_of(calls: set[Call], device: str) -> Iterator[tuple[Call, Callable[[], object]]]:
    """Every call as something to run, one network after the other. It has run once before."""
    networks = Networks(device)
    for name in NETWORKS:
        if not any(call.network == BUILT.get(name, name) for call in calls):
            continue
        runs = networks.build(name)
        for call in sorted(calls):
            if call.network in runs:
                once = partial(runs[call.network], call.height, call.width)
                once()  # what is kept for further steps
                yield call, once


def counted(calls: set[Call]) -> dict[Call, float]:
    """Operations of every call."""
    return {call: float(operations(once)) for call, once in runs_of(calls, "meta")}


def timed(calls: set[Call], rounds: int) -> dict[Call, float]:
    """Time of every call, in calls of the plain UNet, which runs in turn with it."""
    cost, plain = {}, None
    for call, once in runs_of(calls, "cpu"):
        plain = plain or once  # comes first
        seconds = measure({"plain": plain, "this": once}, rounds)
        ratios = [t / p for t, p in zip(seconds["this"], seconds["plain"], strict=True)]
        print(f"    {call.network}: {with_range(ratios)}", flush=True)
        cost[call] = statistics.median(ratios)
    return cost


def table(photo: int, at: int, rounds: int) -> None:
    """photo: side of the photo. at: side of the picture that every network is timed with; 0: counts
    operations, at the sizes that the runs have."""
    asked = {title: Asked(graph, (photo, photo)) for title, graph in graphs().items()}
    calls = {title: each.calls for title, each in asked.items()}
    if at:
        calls = {
            title: Counter({Call(c.network, at, at): n for c, n in each.items()})
            for title, each in calls.items()
        }
        cost, unit = timed(set().union(*calls.values()), rounds), 1.0
        heading = f"calls of the plain UNet, every network over {at}x{at} pixels"
    else:
        cost, unit = counted(set().union(*calls.values())), 1e12
        heading = f"{photo}x{photo} -> {FACTOR * photo}x{FACTOR * photo} pixels, TFLOP"
    print(f"\n{heading}\n")
    print(f"| | worked on at | tiles | steps, guided | {' | '.join(COLUMNS)} | all |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for title, each in asked.items():
        parts: dict[str, float] = dict.fromkeys(COLUMNS, 0.0)
        for call, count in calls[title].items():
            parts[part_of(call.network)] += cost[call] * count / unit
        steps, guided = each.steps()
        shown = " | ".join(digits(parts[name]) for name in COLUMNS)
        print(
            f"| {title} | {at or each.working[1]} | {each.tiles() or ''} | "
            f"{f'{steps}, {guided}' if steps else ''} | {shown} | {digits(sum(parts.values()))} |"
        )


def digits(value: float) -> str:
    """Three of them; nothing for nothing."""
    return "" if not value else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of whole restorations, side by side.")
    parser.add_argument("--time", action="store_true", help="takes time instead of counting")
    parser.add_argument("--side", type=int, default=256, help="pixels of what is timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--host", type=Path, default=Path.home() / "comfy" / "ComfyUI")
    options = parser.parse_args()
    import_pack(options.host)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if options.time:
        table(PHOTOS[0], options.side, options.rounds)
        return
    for photo in PHOTOS:
        table(photo, 0, 1)


if __name__ == "__main__":
    main()
