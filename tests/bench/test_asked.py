"""What the bench reads off a recipe is what a run asks of the network: tiny networks, counted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from restoration.tests.host.tiny_methods import loaders_of, tiny_methods
from restoration.tests.host.workflow_runs import (
    HEIGHT,
    WIDTH,
    as_shipped,
    opened,
    photo,
    replaced_loaders,
    run,
)

pytestmark = pytest.mark.host

ROOT = Path(__file__).resolve().parents[2]


def asked(graph: dict[str, Any]) -> Any:
    """`Asked` of a graph, from a file of the bench by its path."""
    spec = importlib.util.spec_from_file_location("bench_asked", ROOT / "bench" / "_asked.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Asked(graph, (HEIGHT, WIDTH))


@pytest.fixture(scope="module")
def tiny(comfy) -> Any:
    return tiny_methods()


@pytest.mark.parametrize(
    ("name", "network", "inputs"),
    [
        ("diffbir_v2.1_upscale", "diffbir", {"speed": "fast", "tile_size": 0}),
        pytest.param(  # a minute
            "pasd_upscale",
            "pasd",
            {"speed": "fast", "tile_size": 256, "upscale_by": 12.0},
            marks=pytest.mark.slow,
        ),
        ("seesr_turbo_upscale", "seesr", {}),
    ],
)
def test_rows_of_the_unet_are_those_of_a_run(
    comfy, tiny, monkeypatch, name: str, network: str, inputs: dict[str, Any]
) -> None:
    """Guidance in a part of the run, tiles, and a run without guidance."""
    from restoration.diffbir import recipe as diffbir
    from restoration.pasd import recipe as pasd
    from restoration.seesr import recipe as seesr

    for recipe in (diffbir, seesr):
        monkeypatch.setattr(recipe, "MIN_SIDE", 64)
    for version in pasd.VERSIONS.values():
        monkeypatch.setitem(vars(version), "min_side", 64)
    model = tiny.bases["diffbir_v2.1" if "v2.1" in name else network]
    rows: list[int] = []

    def count(_: Any, given: tuple[Any, ...]) -> None:
        rows.append(given[0].shape[0])

    prompt = as_shipped(name, photo(comfy))
    (node,) = (n for n in prompt.values() if n["class_type"].startswith("Restore"))
    node["inputs"] |= {"upscale_by": 2.0, **inputs}
    graph = opened(prompt)
    handle = model.model.diffusion_model.register_forward_pre_hook(count)
    try:
        with replaced_loaders(comfy, loaders_of(tiny, lambda: model)):
            run(comfy, graph)
    finally:
        handle.remove()
    calls = {call: n for call, n in asked(graph).calls.items() if call.network == network}
    assert sum(rows) == sum(calls.values())
    assert asked(graph).tiles() == (4 if inputs.get("tile_size") else 1)
