"""The graphs of OSEDiff and PiSA-SR, as their authors' scripts run them."""

from __future__ import annotations

from ..common.recipe import (
    Given,
    Graph,
    Link,
    Settings,
    around_the_run,
    decoded,
    encoded,
    last,
    mask_at_work,
    node,
    prepared,
)

MIN_SIDE = 512
OVERLAP = 256
"""Of tiles, in pixels."""


def osediff_recipe(given: Given, settings: Settings) -> Graph:
    """given: image, model, clip, vae, onestep_model, and where connected dape_model, which puts what
    it sees before the user's words, transparency, and decode_vae."""
    tagger = given.get("dape_model")
    graph: Graph = {"prepare": prepared(given, settings, MIN_SIDE, 8, "stretch")}
    if tagger is not None:  # it looks at the enlarged photo, other than SeeSR's
        graph["tags"] = node("DAPETagger", dape_model=tagger, image=["prepare", 0])
    graph |= {
        "prompt": node(
            "RestorationPrompt",
            style="osediff",
            prompt=settings.prompt,
            tags=None if tagger is None else ["tags", 0],
        ),
        "positive": node("CLIPTextEncode", "Prompt", clip=given["clip"], text=["prompt", 0]),
        "applied": node(
            "OSEDiffApply",
            model=given["model"],
            vae=given["vae"],
            onestep_model=given["onestep_model"],
        ),
    }
    graph |= _run(given, settings, ["applied", 1], "authors")
    graph["finish"] = _finish(settings, fidelity=settings.fidelity)
    return graph


def pisasr_recipe(given: Given, settings: Settings) -> Graph:
    """given: image, model, clip, vae, onestep_model, and where connected mask, transparency, and
    decode_vae."""
    graph: Graph = {
        "prepare": prepared(given, settings, MIN_SIDE, 8, "stretch"),
        "positive": node(
            "CLIPTextEncode", "Prompt (empty)", clip=given["clip"], text=settings.prompt
        ),
        "applied": node(
            "PiSASRApply",
            model=given["model"],
            onestep_model=given["onestep_model"],
            lambda_pix=settings.lambda_pix,
            lambda_sem=settings.lambda_sem,
            mask=mask_at_work(given),
            fidelity=settings.fidelity,
        ),
    }
    graph |= _run(given, settings, given["vae"], "gaussian")
    graph["finish"] = _finish(settings)
    return graph


def _run(given: Given, settings: Settings, encoder: Link, weighting: str) -> Graph:
    """From the prepared photo to `decoded`. encoder: the VAE that encodes."""
    around = around_the_run(["applied", 0], settings, OVERLAP, weighting=weighting)
    other = given.get("decode_vae")
    latent: Link = ["sampled", 0]
    return {
        **around,
        "latent": encoded(["prepare", 0], encoder, settings),
        "sampled": node(
            "KSampler",
            "KSampler, one step",
            model=last(around, ["applied", 0]),
            seed=0,
            steps=1,
            cfg=1.0,
            sampler_name="euler",
            scheduler="simple",
            positive=["positive", 0],
            negative=["positive", 0],  # not asked: there is no guidance
            latent_image=["latent", 0],
            denoise=1.0,
        ),
        "decoded": decoded(latent, given["vae"], settings)
        if other is None
        else node("VAEDecode", samples=latent, vae=other),
    }


def _finish(settings: Settings, **inputs: Link) -> Graph:
    return node(
        "RestorationFinish",
        image=["decoded", 0],
        info=["prepare", 1],
        color_correction_method=settings.color_correction_method,
        **inputs,
    )
