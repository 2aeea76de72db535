"""What the Restore nodes share: a method's recipe behind a schema, and the inputs that several have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, get_args

from comfy_api.latest import io

from ..common.color import ColorCorrection
from ..common.recipe import Given, Graph, Settings, Speed
from .expansion import expanded, raw
from .schema import CheckedNode, fidelity_slider, schema, seed_input

WIDGETS = frozenset(each.name for each in fields(Settings))
SMALLEST_TILE = 256
FINDS = ("restore photo", "enhance", "old photo", "repair photo", "upscale")


class RestoreNode(CheckedNode):
    """What the Restore nodes share: inputs are what the recipe is given and its settings."""

    recipe: ClassVar[Callable[[Given, Settings], Graph]]

    @classmethod
    def graph(cls, **inputs: Any) -> Graph:
        """The recipe for the node's inputs: links by the names of its sockets, widgets."""
        settings = {name: value for name, value in inputs.items() if name in WIDGETS}
        given = {name: value for name, value in inputs.items() if name not in WIDGETS}
        return cls.recipe(given, Settings(**settings))

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        return expanded(cls.graph(**inputs))

    @classmethod
    def check_together(cls, tile_size: int) -> None:
        if 0 < tile_size < SMALLEST_TILE:
            raise ValueError(
                f"`tile_size` is {tile_size}; tiles need at least {SMALLEST_TILE} pixels, because "
                "the networks see too little of the picture in smaller ones. 0: no tiles."
            )


def whole_method(name: str, description: str, finds: str, *inputs: io.Input, node_id: str) -> Any:
    """The schema of a Restore node. finds: words that lead to it besides those of all, by commas."""
    return schema(
        node_id=node_id,
        display_name=name,
        category="restoration",
        description=description,
        search_aliases=[*FINDS, *finds.split(", ")],
        inputs=list(inputs),
        outputs=[io.Image.Output(tooltip="The restored photo, exactly the asked size.")],
        enable_expand=True,
    )


def sockets(base: str, *networks: io.Input) -> list[io.Input]:
    """Photo, base and the method's own. base: which checkpoint goes with the method."""
    return [
        raw("IMAGE", "image", tooltip="The photo. Any size; several at once as a batch."),
        raw(
            "MODEL",
            "model",
            tooltip=f"From Load Checkpoint: {base}. LoRAs and other patches may lie between.",
        ),
        raw("CLIP", "clip", tooltip="Of the same checkpoint."),
        raw("VAE", "vae", tooltip="Of the same checkpoint."),
        *networks,
    ]


def version_input(versions: list[str], tooltip: str) -> io.Input:
    return io.Combo.Input("version", options=versions, default=versions[0], tooltip=tooltip)


def dials(
    upscale_by: float, fidelity: str, steps: str, seed: int, tile_size: int, unguided: str = ""
) -> list[io.Input]:
    """The widgets but the last. upscale_by, seed, tile_size: defaults. fidelity, steps: what their
    tooltips add. unguided: the version that runs without guidance."""
    dead = f" Without effect for {unguided}." if unguided else ""
    return [
        upscale_by_input(upscale_by),
        fidelity_slider(fidelity),
        prompt_input("Empty is fine; the authors' words on quality are added by themselves."),
        io.String.Input(
            "negative_prompt",
            default="",
            multiline=True,
            tooltip="What to avoid, added behind the authors' own words. Empty leaves theirs alone."
            f"{dead}",
        ),
        io.Int.Input(
            "steps",
            default=0,
            min=0,
            max=1000,
            tooltip=f"Steps of the sampler. 0: the authors' number ({steps}). Fewer are quicker "
            "and smoother.",
        ),
        seed_input("Another number draws other details; the same number the same picture.", seed),
        tile_size_input(tile_size),
        io.Combo.Input(
            "speed",
            options=list(get_args(Speed)),
            default="authors",
            tooltip="authors: every step and its guidance, as published. fast: fewer steps where "
            "`steps` is 0, and guidance in the middle of the run alone; under half of the "
            f"network's calls (two thirds for DiffBIR v2.1), with a little less detail.{dead}",
        ),
    ]


def upscale_by_input(default: float) -> io.Input:
    return io.Float.Input(
        "upscale_by",
        default=default,
        min=0.01,
        max=16.0,
        step=0.01,
        tooltip="Size of the result relative to the photo, exactly. 1 keeps the size; time and "
        "memory grow with the area.",
    )


def prompt_input(empty: str) -> io.Input:
    """empty: what its being empty means."""
    return io.String.Input(
        "prompt",
        default="",
        multiline=True,
        tooltip=f"What the photo shows, in your own words. {empty}",
    )


def tile_size_input(default: int) -> io.Input:
    return io.Int.Input(
        "tile_size",
        default=default,
        min=0,
        max=8192,
        step=64,
        tooltip="A result larger than this is drawn in overlapping tiles of so many pixels, so that "
        "the memory of the network does not grow. Smaller needs less memory and sees less of the "
        "picture around it. 0: the whole picture at once.",
    )


def color_input(default: str, dead: str = "") -> io.Input:
    """dead: when the widget is without effect."""
    return io.Combo.Input(
        "color_correction_method",
        options=list(get_args(ColorCorrection)),
        default=default,
        tooltip="Brings the photo's colors back, as in Finish Restoration. wavelet: coarse colors and "
        "lighting. adain: mean and contrast of each channel. lab: hue and saturation alone. none: as "
        f"drawn.{dead}",
    )


def transparency_input() -> io.Input:
    return raw(
        "MASK",
        "transparency",
        optional=True,
        tooltip="What is transparent in the photo, as Load Image's MASK says it: transparent in "
        "the result too. An opaque photo stays without alpha.",
    )


def beside_the_photo(mask: str) -> list[io.Input]:
    """The optional masks. mask: what it does here."""
    return [raw("MASK", "mask", optional=True, tooltip=mask), transparency_input()]
