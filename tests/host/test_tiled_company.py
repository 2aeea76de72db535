"""Tiled Restoration beside nodes that keep something from call to call."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    sample,
    seeded_input,
    unet_model,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 20, 18


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


@pytest.fixture(scope="module")
def model(host) -> Any:
    return unet_model(ldm_unet_config(SMALL))


def prompts() -> tuple[list, list]:
    texts = (
        seeded_input(3, f"text {name}", 1, 7, SMALL["context_dim"]) for name in ("good", "bad")
    )
    good, bad = map(conditioning, texts)
    return good, bad


def tiled(model: Any, batch: int = 1, tile_size: int = 8) -> Any:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    return apply_tiles(model, TilePlan(tile_size, 3, batch))


def cached(model: Any, node: str = "EasyCacheNode") -> Any:
    """Skips every step that it may."""
    from comfy_extras import nodes_easycache

    return getattr(nodes_easycache, node).execute(model, 1e9, 0.0, 0.9, False).result[0]


def knows_rows(host: Any) -> bool:
    """Whether the host's EasyCache takes calls of more than one prompt (0.3.64: not)."""
    from comfy_extras.nodes_easycache import EasyCacheHolder

    return hasattr(EasyCacheHolder, "can_apply_cache_diff")


def run(host: Any, patched: Any, cfg: float) -> tuple[Tensor, int]:
    """The result with a network that looks at each cell alone, so that tiles cannot be told from
    the whole; and in how many calls that was."""
    from comfy.patcher_extension import WrappersMP

    calls = []

    def pointwise(executor: Any, x: Tensor, timesteps: Tensor, context: Tensor, *_: Any) -> Tensor:
        calls.append(len(x))
        moved = context.mean((1, 2)).reshape(-1, 1, 1, 1)
        return (x + moved).tanh() * (0.3 + timesteps[:, None, None, None] / 2000)

    patched = patched.clone()
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "pointwise", pointwise)
    start = torch.zeros(1, 4, HEIGHT, WIDTH)
    return sample(host, patched, *prompts(), start, steps=6, cfg=cfg), len(calls)


@pytest.mark.parametrize("tiler_first", [True, False])
@pytest.mark.parametrize("batch", [1, 4])
def test_easycache_keeps_what_it_skips_of_every_tile_and_prompt(
    host, model, batch, tiler_first
) -> None:
    for cfg in (1.0, 3.0):
        whole, calls = run(host, cached(model), cfg)
        both = cached(tiled(model, batch)) if tiler_first else tiled(cached(model), batch)
        found, in_tiles = run(host, both, cfg)
        right = knows_rows(host) or cfg == 1
        if right:
            torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
        tiles = 3 if batch == 4 and right else 12
        assert calls < 6 and in_tiles == tiles * calls


def test_lazycache_skips_whole_steps(host, model) -> None:
    whole, calls = run(host, cached(model, "LazyCacheNode"), 3.0)
    found, in_tiles = run(host, cached(tiled(model), "LazyCacheNode"), 3.0)
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
    assert calls < 6 and in_tiles == 12 * calls


def guided(model: Any) -> Any:
    from comfy_extras.nodes_sag import SelfAttentionGuidance as Node

    node = getattr(Node, "execute", None) or Node().patch
    patched = node(model, 0.7, 2.0)
    return getattr(patched, "result", patched)[0]


def test_guidance_by_the_attention_of_one_call_is_refused_in_tiles_only(host, model) -> None:
    start = torch.zeros(1, 4, 16, 16)
    expected = sample(host, guided(model), *prompts(), start, cfg=3.0)
    assert not torch.equal(expected, sample(host, model, *prompts(), start, cfg=3.0))
    for both in (lambda m, **k: tiled(guided(m), **k), lambda m, **k: guided(tiled(m, **k))):
        assert torch.equal(
            sample(host, both(model, tile_size=16), *prompts(), start, cfg=3.0), expected
        )
        for cfg in (1.0, 3.0):
            with pytest.raises(
                ValueError,
                match=r"^Tiled Restoration cannot cut SelfAttentionGuidance into tiles: .*"
                r"Remove it from the model, or choose a tile_size that holds the whole picture\.$",
            ):
                sample(host, both(model), *prompts(), start, cfg=cfg)


class Remembers:
    """Keeps what a call has shown, as an attribute, below an attribute, or not at all."""

    def __init__(self) -> None:
        self.fixed = torch.zeros(3)
        self.lists: dict[str, list] = {"seen": []}

    def attribute(self, value: Tensor) -> None:
        self.seen = value

    def appended(self, value: Tensor) -> None:
        self.lists["seen"].append(value)

    def forgotten(self, value: Tensor) -> None:
        self.seen = float(value.sum())

    def after(self, args: Any) -> Tensor:
        return args["denoised"] + self.fixed


@pytest.mark.parametrize("how", ["variable", "attribute", "appended", "forgotten"])
@pytest.mark.parametrize("place", ["sampler_post_cfg_function", "sampler_cfg_function"])
def test_what_a_function_remembers_of_a_call_is_found_wherever_it_keeps_it(
    host, how, place
) -> None:
    from restoration.host.call_state import CallState

    node, seen = Remembers(), None

    def after(args: Any) -> Tensor:
        return args["denoised"] + seen

    def variable(value: Tensor) -> None:
        nonlocal seen
        seen = value

    during, function = {
        "variable": (variable, after),
        "attribute": (node.attribute, node.after),
        "appended": (node.appended, lambda args: node.after(args)),
        "forgotten": (node.forgotten, node.after),
    }[how]
    state = CallState({place: [function] if "post" in place else function})
    during(torch.ones(3))
    found = state.changed()
    assert len(found) == (how != "forgotten")
    assert how != "attribute" or found == ["Remembers"]
