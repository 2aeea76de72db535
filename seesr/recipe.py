"""SeeSR's graphs, as its authors' scripts run each release (Wu et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass

from ..common.recipe import (
    Given,
    Graph,
    Settings,
    around_the_run,
    decoded,
    encoded,
    guided,
    last,
    mask_at_work,
    node,
    prepared,
    sampled,
    started,
    texts,
)

MIN_SIDE = 512


@dataclass(frozen=True)
class Version:
    """One base, as the authors run it."""

    schedule: str
    steps: int
    fast_steps: int
    cfg: float
    tile_overlap: int
    """In pixels."""


VERSIONS = {
    "seesr": Version("seesr_ddpm", 50, 20, 5.5, 32),
    "seesr_turbo": Version("seesr_turbo", 2, 2, 1.0, 256),
}


def recipe(given: Given, settings: Settings) -> Graph:
    """A tagger says what is in the photo, in words and to the attention; the run starts from the
    photo under noise. given: image, model, clip, vae, seesr_model, dape_model, and where connected
    mask, transparency, and tile_tagger, a DAPE_MODEL that looks at every tile.

    The authors' tiles overlap by so little that borders may show where neighbors differ: those with
    tags of their own overlap by a third.
    """
    version = VERSIONS[settings.version]
    tile_tagger = given.get("tile_tagger")
    overlap = version.tile_overlap if tile_tagger is None else settings.tile_size // 3
    graph = {
        "tags": node("DAPETagger", dape_model=given["dape_model"], image=given["image"]),
        **texts(given["clip"], "seesr", settings, tags=["tags", 0]),
        "prepare": prepared(given, settings, MIN_SIDE, 8, "stretch"),
        "control": node(
            "SeeSRControlApply",
            model=given["model"],
            seesr_model=given["seesr_model"],
            image=["prepare", 0],
            tag_embeds=["tags", 1],
            mask=mask_at_work(given),
            dape_model=tile_tagger,
            fidelity=settings.fidelity,
        ),
    }
    graph |= around_the_run(["control", 0], settings, overlap, weighting="authors")
    model = last(graph, None)
    graph |= {
        "guider": guided(model, version.cfg),
        "sampler": node("RestorationSampler", sampler_name="seesr_ddpm"),
        "sigmas": node(
            "RestorationSigmas",
            model=model,
            schedule=version.schedule,
            steps=settings.steps_of(version.steps, version.fast_steps),
        ),
        "latent": encoded(["prepare", 0], given["vae"], settings),
        "start": started("Start from the photo", model, "seesr", settings),
        "sampled": sampled(),
        "decoded": decoded(["sampled", 0], given["vae"], settings),
        "finish": node(
            "RestorationFinish",
            image=["decoded", 0],
            info=["prepare", 1],
            color_correction_method=settings.color_correction_method,
        ),
    }
    return graph
