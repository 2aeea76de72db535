"""StyleID: inversion, features and whole stylisations through the nodes and the host's samplers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from restoration.tests.golden.suite import GoldenCase, golden

PREDICTIONS: dict[str, Any] = {"epsilon": "eps", "v_prediction": "v"}


def network(case: GoldenCase) -> Any:
    """The host's UNet with the case's weights, which are named as diffusers names them."""
    from comfy.utils import unet_to_diffusers

    from restoration.tests.host.networks import diffusers_unet_config, unet_model

    config = diffusers_unet_config(case.config["unet"])
    names = unet_to_diffusers(config)
    weights = {names[key]: value for key, value in case.state_dict().items()}
    return unet_model(config, weights, PREDICTIONS[case.config["prediction_type"]])


class Watch:
    """A clone of a model that keeps every network call's input z and timestep."""

    def __init__(self, model: Any) -> None:
        from comfy.patcher_extension import WrappersMP

        self.model = model.clone()
        self.inputs: list[Tensor] = []
        self.timesteps: list[int] = []

        def watch(executor: Any, x: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Any:
            self.inputs.append(x.clone())
            self.timesteps.append(round(float(timesteps[0])))
            return executor(x, timesteps, *args, **kwargs)

        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", watch)


def socket(z: Tensor) -> dict[str, Tensor]:
    """A latent in the model's scale as a LATENT."""
    import comfy.latent_formats

    return {"samples": comfy.latent_formats.SD15().process_out(z)}


def at_level(model: Any, latent: Tensor, sigma: float) -> Tensor:
    """z of a LATENT at a noise level."""
    x = model.get_model_object("latent_format").process_in(latent)
    return x / (1 + sigma**2) ** 0.5


def inverted(
    case: GoldenCase, model: Any, z: Tensor, convention: str, layers: str, features: str
) -> tuple:
    from restoration.nodes.style import StyleIDInvert
    from restoration.tests.host.networks import conditioning

    steps, text = case.config["steps"], conditioning(case.tensors["context"])
    return StyleIDInvert.execute(model, text, socket(z), steps, convention, layers, features).result


def run_inversion(case: GoldenCase, get: Any, convention: str) -> None:
    get("comfy")
    watch = Watch(network(case))
    out, _ = inverted(case, watch.model, case.tensors["latent"], convention, "", "cpu_fp16")
    assert watch.timesteps == case.config["model_timesteps"]
    table = watch.model.get_model_object("model_sampling").sigmas
    last = at_level(watch.model, out["samples"], float(table[case.config["level_after"][-1]]))
    case.check({"latents": torch.stack([*watch.inputs[1:], last])})


@golden("styleid", "ddim_inversion (official diffusers script)", needs_host=True)
def inversion(case: GoldenCase, get) -> None:
    run_inversion(case, get, "diffusers")


@golden("styleid", "ddim_inversion (official ldm code)", needs_host=True)
def inversion_ldm(case: GoldenCase, get) -> None:
    run_inversion(case, get, "ldm")


@golden(
    "styleid",
    "self-attention features stored during inversion (official diffusers script)",
    needs_host=True,
)
def features(case: GoldenCase, get) -> None:
    """The stored hidden states, through the layers' own projections."""
    get("comfy")
    model, picks = network(case), case.config["picks"]
    layers = ",".join(str(layer) for layer, _ in picks)
    _, kept = inverted(case, model, case.tensors["latent"], "diffusers", layers, "cpu_fp32")
    found = {}
    for layer, timestep in picks:
        block = model.model.diffusion_model.output_blocks[layer][1].transformer_blocks[0]
        hidden = kept.hidden[timestep][layer]
        for name in "qkv":
            projection = getattr(block.attn1, f"to_{name}")
            with torch.no_grad():
                found[f"{name}_layer{layer}_t{timestep}"] = projection(hidden)
    case.check(found)


@golden("styleid", "adain of the two inverted latents")
def adain_latents(case: GoldenCase, get) -> None:
    """`seed_port` records another port's formula, for documentation only."""
    from restoration.styleid.injection import adain, adain_eps

    content, style = case.tensors["content"], case.tensors["style"]
    found = {name: adain(content, style, adain_eps(name)) for name in ("diffusers", "ldm")}
    case.check(found)
    case.leave("seed_port")


@golden("styleid", "one injected self-attention call", needs_host=True)
def attention(case: GoldenCase, get) -> None:
    get("comfy")
    from comfy.ldm.modules.attention import optimized_attention

    from restoration.styleid.injection import blend_query

    t, config, weights = case.tensors, case.config, case.state_dict()
    query = blend_query(t["q"], t["q_content"], config["gamma"], config["T"])
    attended = optimized_attention(query, t["k_style"], t["v_style"], config["heads"])
    found = {"attended": attended}
    if weights:
        weight, bias = weights["attn1.to_out.0.weight"], weights["attn1.to_out.0.bias"]
        found["projected"] = attended @ weight.T + bias
    case.check(found)


def stylise(case: GoldenCase, get: Any, convention: str) -> None:
    """The graph: two inversions, Apply StyleID, SamplerCustom with euler and cfg 1. Once from kept
    features, and once in lockstep where the sizes allow it."""
    get("comfy")
    model = network(case)
    modes = ["cpu_fp32"]
    if case.tensors["content"].shape == case.tensors["style"].shape:
        modes.append("lockstep")
    for features in modes:
        found = stylised(case, model, convention, features)
        case.check(found)


def stylised(case: GoldenCase, model: Any, convention: str, features: str) -> dict[str, Tensor]:
    import comfy.sample
    import comfy.samplers

    from restoration.nodes.style import StyleIDApply
    from restoration.tests.host.networks import conditioning

    config, layers = case.config, ",".join(map(str, case.config["layers"]))
    ends = {}
    for name in ("content", "style"):
        ends[name] = inverted(case, model, case.tensors[name], convention, layers, features)[1]
    patched, start, sigmas = StyleIDApply.execute(
        model, ends["content"], ends["style"], config["gamma"], config["T"], layers, True, 0.0, 1.0
    ).result
    table = model.get_model_object("model_sampling").sigmas
    # The recorded z of the last step is at level 0, also where the node ends at sigma 0.
    levels = [*sigmas[:-1].tolist(), float(table[0])]
    watch, x0 = Watch(patched), []
    text = conditioning(case.tensors["context"])
    out = comfy.sample.sample_custom(
        watch.model,
        torch.zeros_like(start["samples"]),
        1.0,
        comfy.samplers.sampler_object("euler"),
        torch.tensor(levels),
        text,
        text,
        start["samples"],
        callback=lambda i, denoised, x, total: x0.append(denoised.clone()),
    )
    assert watch.timesteps == config["model_timesteps"]
    rows = len(case.tensors["content"])
    seen = [z[:rows] for z in watch.inputs]
    last = at_level(model, out, float(table[config["level_after"][-1]]))
    return {
        "content_inverted": ends["content"].end,
        "style_inverted": ends["style"].end,
        "start": seen[0],
        "latents": torch.stack([*seen[1:], last]),
        "x0": torch.stack(x0),
    }


@golden("styleid", "full stylisation (official diffusers script)", needs_host=True)
def stylisation(case: GoldenCase, get) -> None:
    stylise(case, get, "diffusers")


@golden("styleid", "full stylisation (official ldm code)", needs_host=True)
def stylisation_ldm(case: GoldenCase, get) -> None:
    stylise(case, get, "ldm")
