"""What the recipes of the methods are written with: graphs in ComfyUI's API form.

A recipe is a function from what its user has connected and set to a graph, a dict of nodes by name.
The same graph becomes the inside of a Restore node, a shipped workflow and a blueprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Link = Any
"""How an output is named by whoever builds a graph; inside of a recipe [name of the node, slot]."""
Graph = dict[str, dict[str, Any]]
"""{name: {"class_type": ..., "inputs": {...}}}. The first output of the last one is the result."""
Given = Mapping[str, Link | None]
"""What the user has connected, by the names of a Restore node's sockets."""
Speed = Literal["authors", "fast"]

GUIDED = (0.2, 0.8)
"""The part of a `fast` run that is guided: at both ends guidance changes little or harms
(Kynkäänniemi et al. 2024, arXiv 2404.07724)."""


@dataclass(frozen=True)
class Settings:
    """The widgets of a Restore node. Numbers that a recipe hands on as they are may be links."""

    upscale_by: float | Link
    fidelity: float | Link
    prompt: str | Link
    version: str = ""
    """Which release of the method, a key of its recipe's table."""
    negative_prompt: str | Link = ""
    seed: int | Link = 0
    steps: int = 0
    """0: the number of the release, or the one of its `fast` run."""
    tile_size: int = 0
    """In pixels; 0: the whole picture at once."""
    speed: Speed = "authors"
    color_correction_method: str | Link = "wavelet"
    lambda_pix: float | Link = 1.0
    """How much damage is removed, and how much detail is drawn, where a method has a dial for each."""
    lambda_sem: float | Link = 1.0

    def steps_of(self, authors: int, fast: int) -> int:
        return self.steps or (fast if self.speed == "fast" else authors)


def node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    """One node. Inputs that are None are not connected. title: what a graph calls it, where the
    node's own name does not say what it is there for."""
    given = {name: value for name, value in inputs.items() if value is not None}
    shown = {"_meta": {"title": title}} if title else {}
    return {"class_type": class_type, "inputs": given, **shown}


def texts(clip: Link, style: str, settings: Settings, **seen: Any) -> Graph:
    """`positive` and `negative`: the authors' words with the user's. seen: what a tagger or
    captioner says."""
    return {
        "prompt": node(
            "RestorationPrompt",
            style=style,
            prompt=settings.prompt,
            negative_prompt=settings.negative_prompt,
            **seen,
        ),
        "positive": node("CLIPTextEncode", "Positive prompt", clip=clip, text=["prompt", 0]),
        "negative": node("CLIPTextEncode", "Negative prompt", clip=clip, text=["prompt", 1]),
    }


def prepared(
    given: Given, settings: Settings, min_side: int, multiple: int, fit: str, **inputs: Any
) -> dict[str, Any]:
    """The node that brings the photo to working size, with the masks that came with it. inputs: what
    takes the place of the photo, its size or its masks."""
    usual: dict[str, Any] = {
        "image": given["image"],
        "upscale_by": settings.upscale_by,
        "mask": given.get("mask"),
        "transparency": given.get("transparency"),
    }
    sizes = {"min_side": min_side, "multiple": multiple, "fit": fit}
    return node("RestorationPrepare", **usual | sizes | inputs)


def mask_at_work(given: Given) -> Link | None:
    """The mask of `prepare`, where one is connected."""
    return None if given.get("mask") is None else ["prepare", 2]


def encoded(picture: Link, vae: Link, settings: Settings) -> dict[str, Any]:
    """The node that encodes the picture; in tiles where the run is tiled."""
    kind = "TiledVAEEncodeExact" if settings.tile_size else "VAEEncode"
    return node(kind, pixels=picture, vae=vae)


def decoded(latent: Link, vae: Link, settings: Settings) -> dict[str, Any]:
    """The node that decodes the result; in tiles where the run is tiled."""
    kind = "TiledVAEDecodeExact" if settings.tile_size else "VAEDecode"
    return node(kind, samples=latent, vae=vae)


def around_the_run(
    model: Link, settings: Settings, overlap: int, of: str = "", **tiling: Any
) -> Graph:
    """What tiles and speeds up a MODEL: none, one or both of `tiled` and `fast`, the last of which
    is the model to sample. overlap: of tiles, in pixels. of: see `sampled`."""
    graph: Graph = {}
    if settings.tile_size:
        graph[f"{of}tiled"] = node(
            "TiledRestoration",
            model=model,
            tile_size=settings.tile_size,
            tile_overlap=overlap,
            **tiling,
        )
        model = [f"{of}tiled", 0]
    if settings.speed == "fast":
        start, end = GUIDED
        graph[f"{of}fast"] = node(
            "RestorationCFG", model=model, start_percent=start, end_percent=end
        )
    return graph


def last(graph: Graph, otherwise: Link) -> Link:
    """The first output of the last node of a graph; of none, `otherwise`."""
    return [next(reversed(graph)), 0] if graph else otherwise


def guided(model: Link, cfg: float, control: str = "") -> dict[str, Any]:
    """The node that guides by the texts. control: the node that has them, where one stands between."""
    positive, negative = (
        ([control, 0], [control, 1]) if control else (["positive", 0], ["negative", 0])
    )
    return node("CFGGuider", model=model, positive=positive, negative=negative, cfg=cfg)


def started(
    title: str, model: Link, start: str, settings: Settings, of: str = "", **inputs: Any
) -> dict[str, Any]:
    """The node that gives the start of a run over `sigmas`. start: a start point of the registry. of:
    see `sampled`."""
    usual = {"latent": [f"{of}latent", 0], "sigmas": ["sigmas", 0], "seed": settings.seed}
    return node("LREmbeddedNoise", title, model=model, **usual, start=start, **inputs)


def sampled(of: str = "") -> dict[str, Any]:
    """The node that runs `guider` from `start`, over `sampler` and `sigmas`. of: what stands before
    the names of a second run in one graph."""
    return node(
        "SamplerCustomAdvanced",
        noise=[f"{of}start", 0],
        guider=[f"{of}guider", 0],
        sampler=["sampler", 0],
        sigmas=["sigmas", 0],
        latent_image=[f"{of}latent", 0],
    )
