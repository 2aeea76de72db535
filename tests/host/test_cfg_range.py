"""Guidance over a part of the run, beside the host's own patches of guidance, guiders and caches."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.diffbir.sampling import growing_cfg
from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    sample,
    seeded_input,
    unet_model,
)

pytestmark = pytest.mark.host

CLOSE = {"rtol": 1e-4, "atol": 1e-3}
OFF = (1.0, 1.0)
"""A range without a step."""
Patch = Callable[[Any], Any]


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


@pytest.fixture(scope="module")
def model(host) -> Any:
    return unet_model(ldm_unet_config(SMALL))


def text(name: str) -> list:
    return conditioning(seeded_input(3, f"text {name}", 1, 7, SMALL["context_dim"]))


def empty() -> Tensor:
    return torch.zeros(1, 4, 12, 10)


def ranged(model: Any, start: float, end: float, rescale: bool = False) -> Any:
    from restoration.nodes.sampling import RestorationCFG

    return RestorationCFG.execute(model, rescale, start, end).result[0]


def run(host: Any, model: Any, cfg: float = 4.0, **how: Any) -> Tensor:
    how = {"steps": 3, **how}
    return sample(host, model, text("good"), text("bad"), empty(), cfg=cfg, **how)


def in_both_orders(model: Any, patch: Patch, *percent: float) -> list[Any]:
    return [ranged(patch(model), *percent), patch(ranged(model, *percent))]


def core(node: str, *inputs: Any) -> Patch:
    """A node of the host that takes MODEL and gives it, by its file and class."""
    import importlib

    file, name = node.split(".")
    found = getattr(importlib.import_module(f"comfy_extras.nodes_{file}"), name)
    return lambda model: found.execute(model, *inputs)[0]


def sharpened(model: Any) -> Any:
    import comfy_extras.nodes_post_processing  # noqa: F401 - the two files import each other
    from comfy_extras.nodes_latent import LatentApplyOperationCFG, LatentOperationSharpen

    return LatentApplyOperationCFG.execute(model, LatentOperationSharpen.execute(2, 1.0, 0.5)[0])[0]


PRE_CFG: dict[str, Patch] = {
    "APG": lambda model: core("apg.APG", 0.5, 5.0, 0.0)(model),
    "FreSca": lambda model: core("fresca.FreSca", 0.8, 1.5, 3)(model),
    "operation": sharpened,
}


@pytest.mark.parametrize("name", PRE_CFG)
def test_outside_the_range_other_patches_find_no_guidance_in_either_order(
    host, model, name
) -> None:
    unguided = run(host, model, cfg=1.0)
    for patched in in_both_orders(model, PRE_CFG[name], *OFF):
        torch.testing.assert_close(run(host, patched), unguided, **CLOSE)
    one, other = (run(host, p) for p in in_both_orders(model, PRE_CFG[name], 0.0, 0.4))
    assert torch.equal(one, other) and not torch.allclose(one, unguided, atol=0.1)


def test_who_asks_for_the_negative_keeps_it_outside_the_range_in_either_order(host, model) -> None:
    sag = core("sag.SelfAttentionGuidance", 0.5, 2.0)
    one, other = (run(host, patched) for patched in in_both_orders(model, sag, 0.5, 1.0))
    assert torch.isfinite(one).all() and torch.equal(one, other)
    assert not torch.allclose(one, run(host, ranged(model, 0.5, 1.0)), atol=0.1)


def test_normalized_attention_guidance_at_cfg_1_is_what_it_is_without_a_range(host, model) -> None:
    nodes_nag = pytest.importorskip("comfy_extras.nodes_nag", reason="a host older than the node")
    nag = nodes_nag.NAGuidance.execute
    guided = nag(model, 5.0, 0.5, 1.5)[0]
    expected = run(host, guided, cfg=1.0)
    assert not torch.allclose(expected, run(host, model, cfg=1.0), atol=0.1)
    torch.testing.assert_close(run(host, ranged(guided, *OFF), cfg=1.0), expected, **CLOSE)


def test_outside_the_range_the_cfg_plus_plus_samplers_step_as_their_plain_ones(host, model) -> None:
    plain = run(host, model, cfg=1.0, sampler="euler")
    assert not torch.allclose(run(host, model, cfg=1.0, sampler="euler_cfg_pp"), plain, atol=0.1)
    for cfg in (1.0, 4.0):
        found = run(host, ranged(model, *OFF), cfg=cfg, sampler="euler_cfg_pp")
        torch.testing.assert_close(found, plain, **CLOSE)


def test_a_node_that_runs_both_prompts_apart_is_not_guided_outside_the_range(host, model) -> None:
    def apart(args: dict[str, Any]) -> list[Tensor]:
        from comfy.samplers import calc_cond_batch

        rest = args["input"], args["sigma"], args["model_options"]
        cond, uncond = args["conds"]
        return [
            calc_cond_batch(args["model"], [cond, None], *rest)[0],
            calc_cond_batch(args["model"], [None, uncond], *rest)[1],
        ]

    split = model.clone()
    split.set_model_sampler_calc_cond_batch_function(apart)
    unguided = run(host, model, cfg=1.0)
    torch.testing.assert_close(run(host, ranged(split, *OFF)), unguided, **CLOSE)


@pytest.mark.parametrize("percent", [(0.5, 1.0), (0.0, 0.5)], ids=str)
def test_a_cache_by_prompt_entry_meets_a_negative_that_joins_or_leaves(
    host, model, percent
) -> None:
    cached = core("easycache.EasyCacheNode", 3.0, 0.15, 0.95, False)
    for patched in in_both_orders(model, cached, *percent):
        assert torch.isfinite(run(host, patched, steps=8)).all()


# What grows


def test_growing_guidance_counts_in_training_timesteps_on_every_schedule(model) -> None:
    import comfy.model_sampling as ms
    from comfy_extras.nodes_model_advanced import (
        ModelSamplingContinuousEDM,
        ModelSamplingDiscrete,
        ModelSamplingSD3,
    )

    from restoration.host.sampling import training_timestep

    level = ms.ModelSamplingDiscrete().sigmas[[499]]
    patches: dict[str, tuple[Any, Tensor]] = {
        "eps": (model, level),
        "lcm": (ModelSamplingDiscrete().patch(model, "lcm", False)[0], level),
        "continuous": (ModelSamplingContinuousEDM().patch(model, "eps", 120.0, 0.002)[0], level),
        "flow": (ModelSamplingSD3().patch(model, 3.0)[0], level / (1 + level)),
    }
    for name, (patched, sigma) in patches.items():
        found = training_timestep(patched.get_model_object("model_sampling"), sigma)
        assert found == pytest.approx(499, abs=0.01), name
    flow = patches["flow"][0].get_model_object("model_sampling")
    assert [training_timestep(flow, torch.tensor([s])) for s in (0.0, 1.0)] == [0, 999]
    assert growing_cfg(4.0, training_timestep(flow, torch.tensor([1.0]))) == pytest.approx(1)


# What is said


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "Restoration CFG" in r.getMessage()]


def three_prompts(model: Any) -> Any:
    from comfy_extras.nodes_perpneg import PerpNegGuider

    return PerpNegGuider.execute(model, text("good"), text("bad"), text(""), 4.0, 1.0)[0]


def sample_guider(guider: Any) -> None:
    from comfy.samplers import sampler_object

    sigmas = torch.tensor([10.0, 3.0, 0.0])
    with torch.inference_mode():
        guider.sample(torch.randn(1, 4, 12, 10), empty(), sampler_object("euler"), sigmas, seed=0)


def test_what_guidance_outside_the_range_stays_is_said_once_a_run(host, model, caplog) -> None:
    perp_neg = core("perpneg.PerpNeg", text(""), 1.0)
    apg = PRE_CFG["APG"]
    said = {
        "3 prompts": lambda: sample_guider(three_prompts(ranged(model, *OFF))),
        "Perp-Neg": lambda: run(host, perp_neg(ranged(model, *OFF))),
        "`rescale`": lambda: run(host, apg(ranged(model, 0.0, 1.0, rescale=True))),
    }
    for words, runs in said.items():
        with caplog.at_level(logging.WARNING):
            runs()
        (found,) = warnings(caplog)
        assert words in found
        caplog.clear()
    with caplog.at_level(logging.WARNING):
        run(host, apg(ranged(model, 0.0, 0.4)))
        run(host, perp_neg(ranged(model, 0.0, 1.0)))
        sample_guider(three_prompts(ranged(model, 0.0, 1.0)))
    assert not warnings(caplog)
