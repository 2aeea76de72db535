"""PASD's graphs, as its authors' scripts run each release (Yang et al. 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..common.recipe import (
    Given,
    Graph,
    Link,
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


@dataclass(frozen=True)
class Version:
    """One release, as its authors run it."""

    style: str
    steps: int = 20
    fast_steps: int = 10
    cfg: float = 9.0
    strength: float = 1.0
    min_side: int = 768
    start: str = "pasd"
    """`pasd`: from the photo under noise. `noise`: without it."""
    frees_start: bool = True
    """Whether `fidelity` also turns how far the start is noised."""
    stock: tuple[str, str] | None = None
    """(sampler, scheduler) of ComfyUI's own, instead of the authors'."""


VERSIONS = {
    "pasd": Version("pasd"),
    "pasd_color": Version("pasd_colorization", frees_start=False),
    # Timesteps 961, 921, ... 1: SDXL's own "leading" spacing.
    "pasd_sdxl": Version(
        "pasd_sdxl", 25, 12, 7.0, 0.8, 1280, "noise", False, ("euler", "ddim_uniform")
    ),
    # Timesteps 999, 759, 499, 259: the LCM scheduler's.
    "pasd_lcm": Version("pasd", 4, 4, 1.0, stock=("lcm", "simple")),
}
"""`pasd` is also the light release, which differs in its weights alone; `pasd_lcm` is either of them on
a base with the LCM-LoRA, which their script offers (steps and guidance: the LoRA's own page)."""
COLOR, SDXL, LCM = "pasd_color", "pasd_sdxl", "pasd_lcm"


def recipe(given: Given, settings: Settings) -> Graph:
    """One stage: the photo, enlarged, steers the drawing. given: image, model, clip, vae,
    pasd_model, and where connected mask, transparency, and the texts classes, objects, caption."""
    if settings.version == COLOR:
        return _colorized(given, settings)
    return _drawn(given, settings)


def _drawn(given: Given, settings: Settings) -> Graph:
    version = VERSIONS[settings.version]
    base, graph = given["model"], {}
    if settings.version == LCM:
        sampling = node("ModelSamplingDiscrete", model=base, sampling="lcm", zsnr=False)
        base, graph = ["sampling", 0], {"sampling": sampling}
    graph |= {
        "prepare": prepared(given, settings, version.min_side, 8, "stretch"),
        **_texts(given, settings),
        "latent": encoded(["prepare", 0], given["vae"], settings),
        "control": node(
            "PACAControlApply",
            model=base,
            pasd_model=given["pasd_model"],
            image=["prepare", 0],
            strength=version.strength,
            mask=mask_at_work(given),
            fidelity=settings.fidelity,
        ),
    }
    graph |= around_the_run(["control", 0], settings, settings.tile_size // 4)
    model = last(graph, None)
    graph |= _steps(settings, model)
    graph |= {
        "start": started(
            "Start from the photo" if version.start == "pasd" else "Start from noise",
            model,
            version.start,
            settings,
            fidelity=settings.fidelity if version.frees_start else None,
        ),
        "guider": guided(model, version.cfg),
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


def _texts(given: Given, settings: Settings) -> Graph:
    version = VERSIONS[settings.version]
    seen = {name: given.get(name) for name in ("classes", "objects", "caption")}
    graph = texts(given["clip"], version.style, settings, **seen)
    if settings.version != SDXL:
        return graph
    # SDXL is also told a size, by its authors that of the picture.
    sides: dict[str, Any] = dict.fromkeys(
        ("width", "height", "target_width", "target_height"), version.min_side
    )
    for name, slot in (("positive", 0), ("negative", 1)):
        text: Link = ["prompt", slot]
        graph[name] = node(
            "CLIPTextEncodeSDXL",
            f"{name.title()} prompt",
            clip=given["clip"],
            text_g=text,
            text_l=text,
            **sides,
        )
    return graph


def _steps(settings: Settings, model: Link) -> Graph:
    """`sampler` and `sigmas`."""
    version = VERSIONS[settings.version]
    steps = settings.steps_of(version.steps, version.fast_steps)
    if version.stock is not None:
        sampler, scheduler = version.stock
        return {
            "sampler": node("KSamplerSelect", sampler_name=sampler),
            "sigmas": node("BasicScheduler", model=model, scheduler=scheduler, steps=steps),
        }
    return {
        "sampler": node("RestorationSampler", sampler_name="pasd_unipc"),
        "sigmas": node("RestorationSigmas", model=model, schedule="pasd_unipc", steps=steps),
    }


def _colorized(given: Given, settings: Settings) -> Graph:
    """The brightness of the photo, drawn in color; the result's colors on the photo's own
    brightness. A colorizing release predicts v and starts without any signal."""
    graph = {
        "size": node(
            "RestorationPrepare",
            "The photo at its final size",
            image=given["image"],
            upscale_by=settings.upscale_by,
            multiple=1,
            mask=given.get("mask"),
            transparency=given.get("transparency"),
        ),
        "brightness": node("ImageRGBToYUV", "Brightness of the photo", image=["size", 0]),
        "model": node(
            "ModelSamplingDiscrete", model=given["model"], sampling="v_prediction", zsnr=True
        ),
    }
    mask = None if given.get("mask") is None else ["size", 2]
    gray = {"image": ["brightness", 0], "model": ["model", 0], "mask": mask, "transparency": None}
    graph |= _drawn(
        {**given, **gray}, replace(settings, upscale_by=1.0, color_correction_method="none")
    )
    graph["drawn"] = graph.pop("finish")
    graph |= {
        "colors": node("ImageRGBToYUV", "Colors of the result", image=["drawn", 0]),
        "colored": node("ImageYUVToRGB", Y=["brightness", 0], U=["colors", 1], V=["colors", 2]),
        "finish": node(
            "RestorationFinish",
            image=["colored", 0],
            info=["size", 1],
            color_correction_method="none",
        ),
    }
    return graph
