"""The bench on a card, without one: tiny networks on the CPU, figures that are kept, failures too."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.host
BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def gpu(comfy, monkeypatch) -> Any:
    """bench/gpu.py as its programs import it; the names of its neighbors are gone afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    import gpu

    yield gpu
    for name in set(sys.modules) - before:
        if (
            getattr(sys.modules[name], "__file__", "")
            and BENCH in Path(str(sys.modules[name].__file__)).parents
        ):
            del sys.modules[name]


@pytest.mark.slow  # it compiles
def test_a_dry_run_measures_every_kind_and_measures_nothing_twice(gpu, tmp_path) -> None:
    gpu.DRY = {"networks": ("plain", "stage 1"), "side": 64}
    gpu.measure_vae = lambda *_: None  # it has a test of its own
    gpu.measure_all(tmp_path, dry=True, rounds=1)
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert not [key for key, found in figures.items() if "failed" in found]
    half = figures["plain: half precision"]["relative difference"]["plain"]
    assert 1e-5 < half < 0.05, "half precision is near, and not the same"
    assert figures["plain, 64x64"]["ms"] > 0 and figures["plain, compiled, 64"]["ms"] > 0
    assert "memory: plain, whole, 64" in figures
    before = (tmp_path / "bench.json").stat().st_mtime_ns
    gpu.measure_all(tmp_path, dry=True, rounds=1)
    assert (tmp_path / "bench.json").stat().st_mtime_ns == before


def test_a_figure_that_fails_says_why_and_the_next_one_is_taken(gpu, tmp_path) -> None:
    def fails() -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    figures = gpu.Figures(tmp_path / "bench.json")
    figures.take("a", fails)
    figures.take("b", lambda: {"ms": 1.0})
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found == {"a": {"failed": "OutOfMemoryError: CUDA out of memory."}, "b": {"ms": 1.0}}


def test_the_vae_is_held_to_the_whole_one(gpu) -> None:
    clock, truth = gpu.Clock(torch.device("cpu"), 1), []
    pixels = torch.zeros(1, 2, 2, 3)
    assert "largest difference to the whole" not in gpu._vae(lambda: pixels, truth, clock)
    found = gpu._vae(lambda: pixels + 0.5, truth, clock)
    assert found["largest difference to the whole"] == 0.5


def test_a_whole_run_is_the_sum_of_its_calls_or_nothing(gpu, monkeypatch) -> None:
    call, other = gpu.Call("plain", 512, 512), gpu.Call("decode", 512, 512)
    asked = {(128, "PASD"): SimpleNamespace(calls={call: 20, other: 1})}
    monkeypatch.setattr(gpu, "all_calls", lambda photos: asked)
    found = {"plain, 512x512": {"ms": 10.0}, "decode, 512x512": {"ms": 50.0}}
    assert dict(gpu.whole_runs(found)) == {"run: PASD, 128": pytest.approx(0.25)}
    assert not dict(gpu.whole_runs({"plain, 512x512": {"ms": 10.0}}))


@pytest.mark.slow  # every recipe at two sizes
def test_every_call_of_every_recipe_belongs_to_a_network_that_is_built(gpu) -> None:
    names = {each.network for asked in gpu.all_calls(gpu.PHOTOS).values() for each in asked.calls}
    runs = {
        *gpu.NETWORKS, "encode", "decode", "decode, TAESD", "pasd, picture", "seesr, picture",
    } - set(gpu.BUILT)  # fmt: skip
    assert names <= runs
