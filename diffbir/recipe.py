"""DiffBIR's graphs: a photo (Lin et al. 2023, section 3), and the faces in one."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

MIN_SIDE, MULTIPLE = 512, 64


@dataclass(frozen=True)
class Version:
    """One release, as its authors run it."""

    style: str
    schedule: str
    sampler: tuple[str, str]
    """Node and name."""
    steps: int
    fast_steps: int
    cfg: float
    cleans_first: bool
    """Stage 1 sees the photo itself (BSRNet, SCUNet), or the photo at working size (SwinIR)."""
    model_sampling: str | None = None


VERSIONS = {
    "v2": Version(
        "diffbir_v2", "diffbir_spaced", ("RestorationSampler", "diffbir_spaced"), 50, 20, 4.0, True
    ),
    "v2.1": Version(
        "diffbir_v2.1",
        "diffbir_edm",
        ("KSamplerSelect", "dpmpp_3m_sde"),
        10,
        8,
        6.0,
        False,
        "v2.1",
    ),
}


def recipe(given: Given, settings: Settings) -> Graph:
    """Stage 1 cleans, stage 2 draws. given: image, model, clip, vae, control_net, and where
    connected upscale_model (stage 1's network), mask, transparency."""
    version = VERSIONS[settings.version]
    graph = _run(version, given, settings)
    graph |= _stage1(version, given, settings)
    graph |= _stage2(version, given, settings, [("clean", "prepare")[version.cleans_first], 0])
    graph["finish"] = node(
        "RestorationFinish",
        image=["decoded", 0],
        info=["prepare", 1],
        reference=None if version.cleans_first else ["clean", 0],
        color_correction_method=settings.color_correction_method,
        fidelity=settings.fidelity,
    )
    return graph


def faces_recipe(given: Given, settings: Settings) -> Graph:
    """The background as by `recipe`, and every face by itself, pasted over it. given: also
    face_model, stage 1's network for faces; mask is where faces are painted."""
    version = VERSIONS[settings.version]
    graph = recipe({**given, "mask": None}, settings)
    graph |= {
        "enlarged": node(
            "RestorationPrepare",
            "Enlarge for the faces",
            image=given["image"],
            upscale_by=settings.upscale_by,
            min_side=MIN_SIDE,
            multiple=1,
        ),
        "faces": node("RestorationFaceCrop", image=["enlarged", 0], mask=given.get("mask")),
        "face_prepare": node("RestorationPrepare", "Size of a face", image=["faces", 0]),
        "face_clean": node(
            "DegradationRemover",
            "Clean the faces",
            image=["face_prepare", 0],
            upscale_model=given.get("face_model"),
        ),
    }
    graph |= _stage2(version, given, replace(settings, tile_size=0), ["face_clean", 0], of="face_")
    graph |= {
        "face_finish": node(
            "RestorationFinish",
            "Finish the faces",
            image=["face_decoded", 0],
            info=["face_prepare", 1],
            reference=["face_clean", 0],
            fidelity=settings.fidelity,
        ),
        "pasted": node(
            "RestorationFacePaste",
            image=["finish", 0],
            faces=["face_finish", 0],
            info=["faces", 1],
        ),
    }
    return graph


def _run(version: Version, given: Given, settings: Settings) -> Graph:
    """What all pictures of a graph share: the texts, and the authors' steps."""
    graph: Graph = {}
    model = given["model"]
    if version.model_sampling:
        graph["model"] = node("DiffBIRModelSampling", model=model, version=version.model_sampling)
        model = ["model", 0]
    kind, name = version.sampler
    graph["sigmas"] = node(
        "RestorationSigmas",
        model=model,
        schedule=version.schedule,
        steps=settings.steps_of(version.steps, version.fast_steps),
    )
    graph["sampler"] = node(kind, sampler_name=name)
    return graph | texts(given["clip"], version.style, settings)


def _stage1(version: Version, given: Given, settings: Settings) -> Graph:
    """`clean` and `prepare`, in the release's order."""
    first, then = ("clean", "prepare") if version.cleans_first else ("prepare", "clean")
    sources = {first: given["image"], then: [first, 0]}
    nodes = {
        "clean": node(
            "DegradationRemover",
            image=sources["clean"],
            upscale_model=given.get("upscale_model"),
            resize_to_input=None if version.cleans_first else True,
        ),
        "prepare": prepared(
            given,
            settings,
            MIN_SIDE,
            MULTIPLE,
            "black",
            image=sources["prepare"],
            # Whatever stage 1 enlarges, the factor is the photo's.
            original=given["image"] if version.cleans_first else None,
        ),
    }
    return {name: nodes[name] for name in (first, then)}


def _stage2(
    version: Version, given: Given, settings: Settings, picture: Link, of: str = ""
) -> Graph:
    """From the cleaned picture to `decoded`. of: stands before the names of its nodes."""
    model = ["model", 0] if version.model_sampling else given["model"]
    around = around_the_run(model, settings, settings.tile_size // 2, of)
    return {
        f"{of}latent": encoded(picture, given["vae"], settings),
        f"{of}control": node(
            "LAControlApply",
            positive=["positive", 0],
            negative=["negative", 0],
            control_net=given["control_net"],
            latent=[f"{of}latent", 0],
            mask=None if of else mask_at_work(given),
            fidelity=settings.fidelity,
        ),
        **around,
        f"{of}guider": guided(last(around, model), version.cfg, f"{of}control"),
        f"{of}start": started("Start from noise", model, "noise", settings, of),
        f"{of}sampled": sampled(of),
        f"{of}decoded": decoded([f"{of}sampled", 0], given["vae"], settings),
    }
