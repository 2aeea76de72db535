"""The frame of every restoration: bring a photo in, clean it, bring it back out."""

from __future__ import annotations

from typing import get_args

from comfy_api.latest import io
from torch import Tensor

from ..common.color import ColorCorrection
from ..common.fidelity import AUTHORS
from ..common.images import from_image, to_image
from ..common.resample import resize
from ..common.sizing import (
    Fit,
    RestoreInfo,
    check_pixels,
    finish,
    mask_at_work,
    prepare,
    scaled_size,
    with_transparency,
)
from ..common.tiling import check_overlap
from ..host.schema import CheckedNode, RestoreInfoType, fidelity_input, fidelity_slider, schema
from ..stage1.restorer import blend, enlarger_for
from ..stage1.run import run_enlarger, run_restorer


def upscale_input(default: float, tooltip: str) -> io.Input:
    """`upscale_by`."""
    return io.Float.Input(
        "upscale_by", default=default, min=0.01, max=16.0, step=0.01, tooltip=tooltip
    )


def tile_inputs(size: str, overlap: int, sense: str) -> tuple[io.Input, io.Input]:
    """`tile_size` and `tile_overlap` of a network that runs over pixels. size, sense: what the
    tooltips say of them in this node. overlap: the default."""
    return (
        io.Int.Input(
            "tile_size",
            default=512,
            min=0,
            max=8192,
            step=64,
            tooltip=f"{size} Smaller needs less memory; 0 never tiles. Halved by itself when memory "
            "runs out.",
        ),
        io.Int.Input(
            "tile_overlap",
            default=overlap,
            min=0,
            max=4096,
            step=8,
            tooltip=f"How far neighboring tiles overlap. {sense} Without effect where that is 0.",
        ),
    )


class RestorationPrepare(CheckedNode):
    """First node of a restoration: a picture of a size that the networks accept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationPrepare",
            display_name="Prepare Restoration",
            category="restoration",
            description="Enlarges a photo of any size to the working size of a restoration and "
            "remembers how to get back: end the workflow with Finish Restoration.",
            search_aliases=["upscale", "resize", "pad"],
            advanced=("min_side", "multiple", "fit"),
            inputs=[
                io.Image.Input("image", tooltip="The degraded photo. Any size; alpha is kept."),
                upscale_input(
                    1.0,
                    "Size of the final picture relative to the input. 1 keeps the size; the papers "
                    "work at 2 to 4.",
                ),
                io.Int.Input(
                    "min_side",
                    default=0,
                    min=0,
                    max=8192,
                    step=8,
                    tooltip="Enlarges further while working when the shorter side is below this; "
                    "the final size does not change. 0 disables. "
                    "DiffBIR and SeeSR use 512, PASD 768: diffusion models draw badly below that.",
                ),
                io.Int.Input(
                    "multiple",
                    default=8,
                    min=1,
                    max=256,
                    tooltip="Makes both sides divisible by this. 8 suits every VAE, DiffBIR uses "
                    "64, 1 changes nothing.",
                ),
                io.Combo.Input(
                    "fit",
                    options=list(get_args(Fit)),
                    default="pad",
                    optional=True,
                    tooltip="How sides become divisible. pad: mirrors the right and bottom edge. "
                    "stretch: resizes by a few pixels, as PASD and SeeSR do. "
                    "black: fills with black, as DiffBIR does. "
                    "Without effect where they are already.",
                ),
                io.Image.Input(
                    "original",
                    optional=True,
                    tooltip="The photo before a model that enlarges by itself, such as BSRNet: "
                    "upscale_by then counts from its size. Not connected: from that of image.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Painted on the photo, in Load Image's mask editor for example: comes "
                    "back at working size, in its place. Not connected, or nothing painted: "
                    "everywhere.",
                ),
                io.Mask.Input(
                    "transparency",
                    optional=True,
                    tooltip="What is transparent in the photo, as Load Image's MASK says it. Finish "
                    "Restoration makes it transparent again. An opaque photo stays without alpha.",
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="The photo at working size, RGB."),
                RestoreInfoType.Output(
                    display_name="restore_info",
                    tooltip="For Finish Restoration: sizes, colors, alpha.",
                ),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="The mask at working size, for apply nodes; white where none was given.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        upscale_by: float,
        min_side: int,
        multiple: int,
        fit: Fit = "pad",
        original: Tensor | None = None,
        mask: Tensor | None = None,
        transparency: Tensor | None = None,
    ) -> io.NodeOutput:
        picture, info = prepare(image, upscale_by, min_side, multiple, fit, original)
        if transparency is not None:
            info = with_transparency(info, transparency)
        return io.NodeOutput(picture, info, mask_at_work(mask, info, fit))


class RestorationFinish(CheckedNode):
    """Last node of a restoration: exactly the asked size, the photo's own colors and alpha."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationFinish",
            display_name="Finish Restoration",
            category="restoration",
            description="Cuts the padding of Prepare Restoration, corrects the colors, resizes to "
            "exactly the asked size and puts the alpha channel back.",
            search_aliases=["color match", "crop back", "unpad"],
            inputs=[
                io.Image.Input(
                    "image", tooltip="The restored picture, at working size or a multiple of it."
                ),
                RestoreInfoType.Input(
                    "info", display_name="restore_info", tooltip="From Prepare Restoration."
                ),
                io.Combo.Input(
                    "color_correction_method",
                    options=list(get_args(ColorCorrection)),
                    default="wavelet",
                    tooltip="wavelet: coarse colors and lighting from the photo (the papers' "
                    "default). adain: mean and contrast of each channel. lab: coarse hue and "
                    "saturation only, brightness stays as restored. none: untouched. "
                    "Without effect at fidelity 1.",
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="Take the colors of this picture instead of the prepared photo's. "
                    "DiffBIR takes those of the degradation remover's output.",
                ),
                fidelity_input(
                    "Above 0.5 blends in the picture that the colors come from, which holds no "
                    "invented detail; 1 is that picture alone."
                ),
            ],
            outputs=[io.Image.Output(tooltip="The finished picture, exactly the asked size.")],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        info: RestoreInfo,
        color_correction_method: ColorCorrection,
        reference: Tensor | None = None,
        fidelity: float = AUTHORS,
    ) -> io.NodeOutput:
        result = finish(image, info, color_correction_method, reference, fidelity)
        return io.NodeOutput(result)


class RestorationFidelity(CheckedNode):
    """One dial for all nodes of a workflow that have `fidelity`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationFidelity",
            display_name="Fidelity Dial",
            category="restoration",
            description="One dial between what the photo says and what the model may add. Connect "
            "it to `fidelity` of apply nodes, LR Embedded Noise, Latent Image Guidance and Finish "
            "Restoration: each turns its own knob by it, and 0.5 leaves all of them as they are "
            "set, which in the shipped workflows is as their authors run them.",
            search_aliases=["fidelity", "strength", "creativity", "slider"],
            inputs=[
                fidelity_slider("What each node does with it is in its tooltip."),
            ],
            outputs=[
                io.Float.Output(display_name="fidelity", tooltip="For inputs named fidelity."),
            ],
        )

    @classmethod
    def execute(cls, fidelity: float) -> io.NodeOutput:
        return io.NodeOutput(fidelity)


class DegradationRemover(CheckedNode):
    """Stage 1: removes noise, blur and compression without inventing detail."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DegradationRemover",
            display_name="Remove Degradation",
            category="restoration",
            description="Removes noise, mild blur and JPEG artifacts without inventing anything. "
            "Works on its own, and as the first stage before a diffusion model. Uses the light "
            "model that comes with the pack, or any restoration model of Load Upscale Model: "
            "SwinIR, SCUNet and BSRNet give DiffBIR's own numbers.",
            search_aliases=[
                "denoise",
                "deblur",
                "jpeg artifacts",
                "clean",
                "stage 1",
                "swinir",
                "restore photo",
                "old photo",
                "enhance",
                "repair photo",
            ],
            advanced=("tile_overlap", "resize_to_input"),
            inputs=[
                io.Image.Input("image", tooltip="The degraded picture. Any size; alpha is kept."),
                *tile_inputs(
                    "Pictures larger than this run in tiles of this many pixels, blended smoothly.",
                    64,
                    "More hides seams better and takes longer; must be smaller than tile_size.",
                ),
                io.Float.Input(
                    "strength",
                    display_name="amount",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of the cleaned picture to use. 1 is all of it, 0 leaves the "
                    "input untouched; 0.7 keeps some grain.",
                ),
                io.Boolean.Input(
                    "resize_to_input",
                    default=False,
                    tooltip="Resizes the result of an upscaling model (x2, x4) back to the size "
                    "of the input. Changes nothing for models that keep the size.",
                ),
                io.UpscaleModel.Input(
                    "upscale_model",
                    optional=True,
                    tooltip="A restoration or upscaling model from Load Upscale Model. "
                    "Empty: the light model that comes with the pack.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The cleaned picture.")],
        )

    @classmethod
    def check_together(cls, tile_size: int, tile_overlap: int) -> None:
        if tile_size:
            check_overlap(tile_size, tile_overlap)

    @classmethod
    def execute(
        cls,
        image: Tensor,
        tile_size: int,
        tile_overlap: int,
        strength: float,
        resize_to_input: bool,
        upscale_model: object | None = None,
    ) -> io.NodeOutput:
        pixels, alpha = from_image(image)
        if strength == 0 and (upscale_model is None or resize_to_input):
            return io.NodeOutput(image)
        restored = run_restorer(pixels, upscale_model, tile_size, tile_overlap).to(pixels.device)
        if resize_to_input:
            restored = resize(restored, pixels.shape[-2], pixels.shape[-1])
        if alpha is not None:
            alpha = resize(alpha, restored.shape[-2], restored.shape[-1])
        # Not clamped to 0..1: DiffBIR encodes the stage-1 image as it comes.
        return io.NodeOutput(to_image(blend(pixels, restored, strength), alpha, clamp=False))


class RestorationEnlarge(CheckedNode):
    """A clean photo at a larger size, by the light networks that come with the pack."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationEnlarge",
            display_name="Enlarge Cleaned Photo",
            category="restoration",
            description="Enlarges a photo with light networks that come with the pack: sharper than "
            "bicubic, and nothing is invented. For photos that are clean, such as those of Finish "
            "Restoration behind Remove Degradation.",
            search_aliases=["upscale", "super resolution", "resize", "2x", "4x", "enlarge"],
            advanced=("tile_overlap",),
            inputs=[
                io.Image.Input("image", tooltip="A clean photo. Any size; alpha is kept."),
                upscale_input(
                    2.0,
                    "Size of the result relative to the photo. 1 changes nothing. Up to 2 the x2 "
                    "network enlarges, above it that for x4; bicubic does the rest, and all of it "
                    "below 1.",
                ),
                *tile_inputs(
                    "Photos larger than this run in tiles of this many of their pixels.",
                    32,
                    "Changes nothing: each tile is shown as much around it as the networks see. Must "
                    "be smaller than tile_size.",
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="The enlarged photo, each side int(side * upscale_by).")
            ],
        )

    @classmethod
    def check_together(cls, tile_size: int, tile_overlap: int) -> None:
        if tile_size:
            check_overlap(tile_size, tile_overlap)

    @classmethod
    def execute(
        cls, image: Tensor, upscale_by: float, tile_size: int, tile_overlap: int
    ) -> io.NodeOutput:
        pixels, alpha = from_image(image)
        size = pixels.shape[-2], pixels.shape[-1]
        wanted = scaled_size(size, upscale_by)
        if wanted == size:
            return io.NodeOutput(image)
        check_pixels("enlarged", wanted, size, "upscale_by")
        factor = enlarger_for(max(new / old for new, old in zip(wanted, size, strict=True)))
        if factor > 1:
            pixels = run_enlarger(pixels, factor, tile_size, tile_overlap).to(pixels.device)
        if alpha is not None:
            alpha = resize(alpha, *wanted)
        return io.NodeOutput(to_image(resize(pixels, *wanted), alpha))


NODES: list[type[io.ComfyNode]] = [
    RestorationPrepare,
    RestorationFinish,
    RestorationFidelity,
    DegradationRemover,
    RestorationEnlarge,
]
