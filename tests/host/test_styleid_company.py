"""StyleID beside core's own nodes: caches, guidance, controls, and other patches of the attention."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from restoration.tests.host.networks import call_model, ldm_unet_config, seeded_input, unet_model
from restoration.tests.host.styleid_runs import (
    HEIGHT,
    SD2_LIKE,
    WIDTH,
    apply,
    close,
    invert_now,
    latent,
    run,
    stylized,
    text,
)

pytestmark = pytest.mark.host

FEATURES = ("cpu_fp32", "lockstep")
EXTRA = pytest.mark.slow  # seconds each; a case beside it goes the same way


@pytest.fixture(scope="module")
def eps(comfy):
    return unet_model(ldm_unet_config(SD2_LIKE))


def ends(model: Any, features: str = "cpu_fp32", **given: Any) -> list[Any]:
    return [invert_now(model, name, features, **given)[1] for name in ("content", "style")]


def cached(model: Any) -> Any:
    from comfy_extras.nodes_easycache import EasyCacheNode

    return EasyCacheNode.execute(model, 0.5, 0.0, 1.0, False).result[0]


def lazy(model: Any) -> Any:
    from comfy_extras.nodes_easycache import LazyCacheNode

    return LazyCacheNode.execute(model, 0.5, 0.0, 1.0, False).result[0]


# Caches


@pytest.mark.parametrize("first", [pytest.param(True, marks=EXTRA), False])
def test_easycache_in_lockstep_keeps_the_rows_apart(eps, caplog, first) -> None:
    """As with kept features, where a call has the stylized rows alone. The oldest host's mixes the
    rows of any call, which is said."""
    from comfy_extras.nodes_easycache import EasyCacheHolder

    found = {}
    for features in FEATURES:
        pair = ends(eps, features, steps=6)
        patched, start, sigmas = apply(cached(eps) if first else eps, *pair)
        both = patched if first else cached(patched)
        how: dict[str, Any] = {"cfg": 3.0, "negative": text("bad")}
        if features == "lockstep" and not hasattr(EasyCacheHolder, "can_apply_cache_diff"):
            with pytest.raises(ValueError, match="EasyCache of this ComfyUI mixes the rows"):
                run(both, start, sigmas, **how)
            return
        with caplog.at_level("INFO"):
            found[features] = run(both, start, sigmas, **how)
        assert "EasyCache - skipped 2/6 steps" in caplog.text
    close(found["lockstep"], found["cpu_fp32"], 1e-4)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("node", [cached, lazy])
def test_a_cache_that_leaves_steps_of_an_inversion_out_is_named(eps, node, features) -> None:
    with pytest.raises(ValueError, match=r"left the network out in a step.*EasyCache"):
        invert_now(node(eps), "content", features, steps=6)


# Guidance


def pag(model: Any) -> Any:
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    return PerturbedAttentionGuidance.execute(model, 3.0).result[0]


def perp_neg(model: Any) -> Any:
    from comfy_extras.nodes_perpneg import PerpNeg

    return PerpNeg.execute(model, text("bad"), 1.0).result[0]


def sag(model: Any) -> Any:
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    return SelfAttentionGuidance.execute(model, 0.5, 2.0).result[0]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("node", [pag, perp_neg, sag])
def test_inversion_has_no_guidance_whatever_the_model_carries(eps, node, features) -> None:
    inverted, kept = invert_now(node(eps), "content", features, steps=2)
    plain, expected = invert_now(eps, "content", features, steps=2)
    close(inverted["samples"], plain["samples"])  # SAG writes its attention in another way
    assert kept.hidden.keys() == expected.hidden.keys()
    assert kept.inputs.keys() == expected.inputs.keys()


# Controls


def adapter(rows: int) -> Any:
    """A T2I adapter: residuals in the input blocks, one row for all."""
    from comfy.controlnet import T2IAdapter
    from comfy.t2i_adapter.adapter import Adapter_light

    network = Adapter_light(channels=[64, 128, 128, 128], nums_rb=1, cin=192)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.copy_(0.1 * seeded_input(6, name, *weight.shape))
    control = T2IAdapter(network, 3, 8, "nearest-exact", device=torch.device("cpu"))
    hint = seeded_input(3, "hint", rows, 3, 8 * HEIGHT, 8 * WIDTH).sigmoid()
    return control.set_cond_hint(hint, 1.0, (0.0, 1.0))


@pytest.mark.parametrize(
    ("images", "cfg"),
    [pytest.param(1, 2.0, marks=EXTRA), pytest.param(2, 1.0, marks=EXTRA), (2, 2.0)],
)
def test_a_t2i_adapter_steers_in_lockstep_as_with_kept_features(eps, images, cfg) -> None:
    control = adapter(1)
    prompts = {"positive": text("good", control=control), "negative": text("bad", control=control)}
    content = latent("content", images)
    found = [stylized(eps, mode, content, cfg=cfg, steps=2, **prompts) for mode in FEATURES]
    close(found[1], found[0], 3e-5)
    prompts = {"positive": text("good"), "negative": text("bad")}
    plain = stylized(eps, "cpu_fp32", content, cfg=cfg, steps=2, **prompts)
    assert (found[0] - plain).std() > 0.02 * plain.std()


# Other patches of the self-attention


@pytest.mark.parametrize("features", FEATURES)
def test_a_hypernetwork_changes_the_injected_keys_and_values_in_any_order(eps, features) -> None:
    """It is linear here: the same as other weights of the projections."""
    parts: dict[int, list[nn.Linear]] = {}
    for width in (64, 128):
        parts[width] = [nn.Linear(width, width, bias=False) for _ in "kv"]
        for number, part in enumerate(parts[width]):
            weight = 0.3 * width**-0.5 * seeded_input(4, f"{width} {number}", width, width)
            part.weight = nn.Parameter(weight, requires_grad=False)

    def hypernetwork(q: Tensor, k: Tensor, v: Tensor, extra: Any) -> tuple:
        key, value = parts[k.shape[-1]]
        return q, k + key(k), v + value(v)

    def patched(model: Any) -> Any:
        model = model.clone()
        model.set_model_attn1_patch(hypernetwork)
        return model

    merged = unet_model(ldm_unet_config(SD2_LIKE))
    for name, weight in merged.model.named_parameters():
        for number, kind in enumerate("kv"):
            if f"attn1.to_{kind}.weight" in name:
                with torch.no_grad():
                    weight.add_(weight @ parts[weight.shape[0]][number].weight)
    pair = ends(patched(eps), features, steps=2)
    _, start, sigmas = apply(eps, *pair)
    expected = run(apply(merged, *ends(merged, features, steps=2))[0], start, sigmas)
    for model in (apply(patched(eps), *pair)[0], patched(apply(eps, *pair)[0])):
        close(run(model, start, sigmas), expected, 1e-4)
    plain = run(apply(eps, *pair)[0], start, sigmas)
    assert (plain - expected).std() > 0.02 * expected.std()


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("first", [True, False])
def test_deep_shrink_is_refused_in_any_order_of_nodes(eps, features, first) -> None:
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale

    def shrunk(model: Any) -> Any:
        given = (3, 2.0, 0.0, 1.0, True, "bicubic", "bicubic")
        return PatchModelAddDownscale.execute(model, *given).result[0]

    pair = ends(eps, features, steps=2)
    patched, start, sigmas = apply(shrunk(eps) if first else eps, *pair)
    with pytest.raises(ValueError, match=r"merges or splits.*Remove.*Kohya Deep Shrink"):
        run(patched if first else shrunk(patched), start, sigmas)
    with pytest.raises(ValueError, match="Kohya Deep Shrink"):
        invert_now(shrunk(eps), "content", features)


# Context windows, schedules


@pytest.mark.parametrize("features", FEATURES)
def test_every_frame_of_a_window_is_stylized_by_its_own_features(eps, features) -> None:
    from comfy.context_windows import IndexListContextWindow

    pictures = [latent(name, 3) for name in ("content", "style")]
    content, style = (invert_now(eps, picture, features)[1] for picture in pictures)
    patched, _, sigmas = apply(eps, content, style)
    first = eps.get_model_object("model_sampling").timestep(sigmas[:1])
    x = seeded_input(3, "x", 3, 4, HEIGHT, WIDTH)

    def called(rows: list[int], **options: Any) -> Tensor:
        model = patched.clone()
        model.model_options["transformer_options"].update(options)
        (found,) = call_model(model, x[rows], first.expand(len(rows)), text())
        return found

    whole = called([0, 1, 2])
    told = "total_frames" in signature(IndexListContextWindow).parameters
    window = IndexListContextWindow([2, 0], dim=0, **({"total_frames": 3} if told else {}))
    close(called([2, 0], context_window=window), whole[[2, 0]])


def test_a_schedule_set_after_styleid_is_refused_in_the_run(eps) -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    patched, prepared, sigmas = apply(eps, *ends(eps))
    edm = ModelSamplingContinuousEDM().patch(patched, "edm", 120.0, 0.002)[0]
    with pytest.raises(ValueError, match="training timesteps"):
        run(edm, prepared, sigmas)
