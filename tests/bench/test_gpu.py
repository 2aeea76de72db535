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


def test_a_figure_that_is_there_is_not_measured_again(gpu, tmp_path) -> None:
    for ms in (1.0, 2.0):
        figures = gpu.Figures(tmp_path / "bench.json")
        assert figures.take("a", lambda ms=ms: {"ms": ms}) == {"ms": 1.0}


def test_a_network_that_cannot_be_built_is_told_and_the_next_one_is_measured(gpu, tmp_path) -> None:
    def build(name: str) -> dict[str, Any]:
        if name == "vae":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {name: lambda height, width: torch.ones(1)}

    networks = SimpleNamespace(tiny=True, build=build, cast=lambda dtype: None)
    figures = gpu.Figures(tmp_path / "bench.json")
    gpu.DRY = {"networks": ("vae", "stage 1"), "side": 64}
    for _ in range(2):
        gpu.measure_networks(figures, networks, gpu.Clock(torch.device("cpu"), 1), True)
    assert figures.found["vae: built"] == {"failed": "OutOfMemoryError: CUDA out of memory."}
    assert figures.found["stage 1, 64x64"]["ms"] >= 0
    assert not [key for key in figures.found if key.startswith("vae, ")]


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_vae_is_held_to_the_whole_one(gpu, tmp_path, interrupted) -> None:
    clock, asked = gpu.Clock(torch.device("cpu"), 1), []

    def run(name: str, value: float) -> Any:
        return lambda: (asked.append(name), torch.full((1, 2, 2, 3), value))[1]

    runs = {"whole": run("whole", 0.0), "core's tiles": run("core", 0.5), "exact": run("own", 0.25)}
    if interrupted:  # after the whole one
        gpu._variants(
            gpu.Figures(tmp_path / "bench.json"), clock, "VAE", 8, {"whole": runs["whole"]}
        )
        asked.clear()
    figures = gpu.Figures(tmp_path / "bench.json")
    gpu._variants(figures, clock, "VAE", 8, runs)
    found = figures.found
    away = {name: found[f"VAE, {name}, 8"].get("largest difference to the whole") for name in runs}
    assert away == {"whole": None, "core's tiles": 0.5, "exact": 0.25}
    assert asked.count("whole") == (1 if interrupted else 3)


def test_where_the_whole_vae_fails_nothing_is_held_to_another_one(gpu, tmp_path) -> None:
    def fails() -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    runs = {"whole": fails, "core's tiles": lambda: torch.ones(1), "exact": lambda: torch.zeros(1)}
    figures = gpu.Figures(tmp_path / "bench.json")
    gpu._variants(figures, gpu.Clock(torch.device("cpu"), 1), "VAE", 8, runs)
    assert [*figures.found["VAE, whole, 8"]] == ["failed"]
    for name in ("core's tiles", "exact"):
        assert [*figures.found[f"VAE, {name}, 8"]] == ["ms", "bytes"]


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
