"""A whole method as one node: a photo in, the restored photo out. Inside is the method's recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, get_args

from comfy_api.latest import io

from ..common.color import ColorCorrection
from ..common.recipe import Given, Graph, Settings, Speed
from ..diffbir import recipe as diffbir
from ..host.expansion import expanded, raw
from ..host.schema import CheckedNode, fidelity_slider, schema
from ..pasd import recipe as pasd
from ..seesr import recipe as seesr

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


def _whole_method(name: str, description: str, finds: str, *inputs: io.Input, node_id: str) -> Any:
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


def _sockets(base: str, *networks: io.Input) -> list[io.Input]:
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


def _version(versions: list[str], tooltip: str) -> io.Input:
    return io.Combo.Input("version", options=versions, default=versions[0], tooltip=tooltip)


def _dials(
    upscale_by: float, fidelity: str, steps: str, seed: int, tile_size: int, unguided: str = ""
) -> list[io.Input]:
    """The widgets but the last. upscale_by, seed, tile_size: defaults. fidelity, steps: what their
    tooltips add. unguided: the version that runs without guidance."""
    dead = f" Without effect for {unguided}." if unguided else ""
    return [
        io.Float.Input(
            "upscale_by",
            default=upscale_by,
            min=0.01,
            max=16.0,
            step=0.01,
            tooltip="Size of the result relative to the photo, exactly. 1 keeps the size; time and "
            "memory grow with the area.",
        ),
        fidelity_slider(fidelity),
        io.String.Input(
            "prompt",
            default="",
            multiline=True,
            tooltip="What the photo shows, in your own words. Empty is fine; the authors' words on "
            "quality are added by themselves.",
        ),
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
        io.Int.Input(
            "seed",
            default=seed,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip="Another number draws other details; the same number the same picture.",
        ),
        io.Int.Input(
            "tile_size",
            default=tile_size,
            min=0,
            max=8192,
            step=64,
            tooltip="A result larger than this is drawn in overlapping tiles of so many pixels, so "
            "that the memory of the network does not grow. Smaller needs less memory and sees less of the picture "
            "around it. 0: the whole picture at once.",
        ),
        io.Combo.Input(
            "speed",
            options=list(get_args(Speed)),
            default="authors",
            tooltip="authors: every step and its guidance, as published. fast: fewer steps where "
            "`steps` is 0, and guidance in the middle of the run alone; under half of the "
            f"network's calls (two thirds for DiffBIR v2.1), with a little less detail.{dead}",
        ),
    ]


def _color(default: str, dead: str = "") -> io.Input:
    """dead: when the widget is without effect."""
    return io.Combo.Input(
        "color_correction_method",
        options=list(get_args(ColorCorrection)),
        default=default,
        tooltip="Brings the photo's colors back, as in Finish Restoration. wavelet: coarse colors and "
        "lighting. adain: mean and contrast of each channel. lab: hue and saturation alone. none: as "
        f"drawn.{dead}",
    )


def _beside_the_photo(mask: str) -> list[io.Input]:
    """The optional masks. mask: what it does here."""
    return [
        raw("MASK", "mask", optional=True, tooltip=mask),
        raw(
            "MASK",
            "transparency",
            optional=True,
            tooltip="What is transparent in the photo, as Load Image's MASK says it: transparent in "
            "the result too. An opaque photo stays without alpha.",
        ),
    ]


WHERE = "Where to restore, painted on the photo. Not connected: everywhere."


def _of_diffbir() -> list[io.Input]:
    """What both nodes of DiffBIR begin with."""
    return [
        *_sockets(
            "Stable Diffusion 2.1 (version v2), or DiffBIR's own base (v2.1)",
            raw("CONTROL_NET", "control_net", tooltip="From Load DiffBIR ControlNet."),
        ),
        _version(
            list(diffbir.VERSIONS),
            "Of the control network. v2: 50 steps, cfg 4. v2.1: 10 steps, cfg 6, on a base "
            "of its own.",
        ),
        *_dials(
            2.0,
            "It turns the control's strength, and above 0.5 blends the cleaned photo in; 1 "
            "is that alone.",
            "50, fast 20; v2.1: 10, fast 8",
            231,
            1024,
        ),
        _color("wavelet", " Without effect at fidelity 1."),
    ]


def _stage1(name: str, tooltip: str) -> io.Input:
    """The socket of a network that cleans. tooltip: which one."""
    light = "Not connected: the light one that comes with the pack."
    return raw("UPSCALE_MODEL", name, optional=True, tooltip=f"{tooltip} {light}")


class RestoreWithDiffBIR(RestoreNode):
    """DiffBIR's two stages."""

    recipe = staticmethod(diffbir.recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _whole_method(
            "Restore with DiffBIR",
            "Restores a photo with DiffBIR: first noise, blur and compression are "
            "removed, then the missing detail is drawn. For badly damaged photos. The whole "
            "method as one node; the templates (all nodes) show what is inside.",
            "denoise, deblur",
            *_of_diffbir(),
            _stage1(
                "upscale_model",
                "The network that cleans first, from Load Upscale Model: BSRNet for "
                "photos, SCUNet for noise.",
            ),
            *_beside_the_photo(WHERE),
            node_id="RestoreWithDiffBIR",
        )


class RestoreFacesWithDiffBIR(RestoreNode):
    """The photo, and every face in it by itself."""

    recipe = staticmethod(diffbir.faces_recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _whole_method(
            "Restore Faces with DiffBIR",
            "Restores a photo and, by itself and at full size, every face in it: faces "
            "are cut out upright, restored with a network for faces, and pasted back with a soft "
            "edge. A photo without a face is restored all the same.",
            "face restore, portrait",
            *_of_diffbir(),
            _stage1(
                "upscale_model",
                "The network that cleans the photo first, from Load Upscale Model: BSRNet.",
            ),
            _stage1(
                "face_model",
                "The network that cleans the faces first, from Load Upscale Model: face_swinir_v1.",
            ),
            *_beside_the_photo(
                "Faces painted by hand, one area each from hairline to chin. Not connected or "
                "empty: they are found (which needs OpenCV and a file of 0.2 MB)."
            ),
            node_id="RestoreFacesWithDiffBIR",
        )


class RestoreWithPASD(RestoreNode):
    """PASD's one stage."""

    recipe = staticmethod(pasd.recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _whole_method(
            "Restore with PASD",
            "Restores, enlarges, stylizes or colorizes a photo with PASD: the photo "
            "steers Stable Diffusion at every pixel. The whole method as one node; the template "
            "(all nodes) shows what is inside.",
            "colorize, stylize, colorize photo, black and white",
            *_sockets(
                "Stable Diffusion 1.5 or any checkpoint made from it, which then gives the "
                "style; SDXL for pasd_sdxl",
                raw("PASD_MODEL", "pasd_model", tooltip="From Load PASD."),
            ),
            _version(
                list(pasd.VERSIONS),
                "Of the files in Load PASD. pasd: also for the light ones; 20 steps, cfg 9. "
                "pasd_color: colorizes a gray photo, whose brightness stays. pasd_sdxl: 25 "
                "steps, cfg 7, worked on at 1280 pixels or more.",
            ),
            *_dials(
                2.0,
                "It turns the strength of PASD, and how far the photo is noised at the start. "
                "With another checkpoint, lower is more style.",
                "20, fast 10; pasd_sdxl: 25, fast 12",
                42,
                1024,
            ),
            _color("wavelet", " Without effect for pasd_color."),
            *(
                raw("STRING", name, optional=True, tooltip=f"From High-Level Prompt: {what}.")
                for name, what in (
                    ("classes", "what a classifier sees"),
                    ("objects", "what a detector counts"),
                    ("caption", "a sentence about the photo"),
                )
            ),
            *_beside_the_photo(WHERE),
            node_id="RestoreWithPASD",
        )


class RestoreWithSeeSR(RestoreNode):
    """SeeSR with its tagger."""

    recipe = staticmethod(seesr.recipe)

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _whole_method(
            "Restore with SeeSR",
            "Enlarges a damaged photo with SeeSR: a tagger says what is in it, in words "
            "and to the model's attention, so that the right things are drawn. The whole method as "
            "one node; the template (all nodes) shows what is inside.",
            "super resolution, tags",
            *_sockets(
                "with the MODEL of Load SeeSR in place of the checkpoint's",
                raw("SEESR_MODEL", "seesr_model", tooltip="From Load SeeSR."),
                raw("DAPE_MODEL", "dape_model", tooltip="From Load DAPE, the tagger."),
            ),
            _version(
                list(seesr.VERSIONS),
                "seesr: 50 steps, cfg 5.5, on Stable Diffusion 2.1. seesr_turbo: 2 steps "
                "without guidance, on SD-Turbo.",
            ),
            *_dials(
                4.0,
                "It turns the strength of SeeSR.",
                "50, fast 20; seesr_turbo: 2",
                231,
                768,
                "seesr_turbo",
            ),
            _color("adain"),
            raw(
                "DAPE_MODEL",
                "tile_tagger",
                optional=True,
                tooltip="The tagger once more: it then looks at every tile by itself. Not "
                "connected: all tiles share what it saw in the whole photo, as the authors do.",
            ),
            *_beside_the_photo(WHERE),
            node_id="RestoreWithSeeSR",
        )


NODES: list[type[io.ComfyNode]] = [
    RestoreWithPASD,
    RestoreWithDiffBIR,
    RestoreWithSeeSR,
    RestoreFacesWithDiffBIR,
]
