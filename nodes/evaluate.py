"""How good is a restoration: damage to undo, figures against the original, and what was invented."""

from __future__ import annotations

import math

import comfy.utils
from comfy_api.latest import io, ui
from torch import Tensor

from .. import registry
from ..common.consistency import lr_consistency
from ..common.degradation import OutputSize, degrade, draw_plan
from ..common.dists import structure_texture_distance
from ..common.images import from_image, match_batch, to_image
from ..common.jpeg import jpeg_round_trip
from ..common.lpips import perceptual_distance
from ..common.metrics import luma_psnr, luma_ssim, papers_luma_ssim
from ..common.no_reference import figures_alone, load_brisque, load_clipiqa
from ..common.resample import resize
from ..host.schema import CheckedNode, schema, seed_input


class RealWorldDegradation(CheckedNode):
    """Damages a clean picture as the papers damage theirs for training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RealWorldDegradation",
            display_name="Degrade Like The Real World",
            category="restoration/evaluate",
            description="Damages a clean picture by random blur, resizing, noise and JPEG, drawn "
            "as the papers draw them for training. Restore the result and compare it with the "
            "clean picture in Restoration Metrics.",
            search_aliases=["degradation", "real-esrgan", "add noise", "jpeg", "blur", "test"],
            inputs=[
                io.Image.Input("image", tooltip="The clean picture. Any size; alpha is kept."),
                io.Combo.Input(
                    "preset",
                    options=list(registry.presets()),
                    default="realesrgan",
                    tooltip="realesrgan: blur, resize, noise and JPEG, twice. pasd: the same, "
                    "milder. diffbir_v2: strong blur and shrinking, once. diffbir_v1_face: the one "
                    "of its face model. realesrgan_exact, pasd_exact, seesr, diffbir_v2.1: each "
                    "as the authors' code computes it; the last two sharpen the picture first.",
                ),
                seed_input(
                    "Draws the damage and its noise. The second picture of a batch gets "
                    "seed + 1, the third seed + 2: alone with that seed it comes out the same."
                ),
                io.Combo.Input(
                    "output_size",
                    options=["quarter_size", "input_size"],
                    default="quarter_size",
                    tooltip="quarter_size: a low-resolution picture to restore with upscale_by 4. "
                    "input_size: the same, enlarged again, as the networks see it.",
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="The damaged picture, in 8-bit steps as a file holds it."),
                io.String.Output(
                    display_name="steps", tooltip="What was done to each picture, in order."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, image: Tensor, preset: str, seed: int, output_size: OutputSize
    ) -> io.NodeOutput:
        pixels, alpha = from_image(image)
        seeds = [seed + row for row in range(pixels.shape[0])]
        plan = registry.presets()[preset]
        bar = comfy.utils.ProgressBar(len(seeds))  # also what an interrupt comes through
        damaged = degrade(
            pixels.clamp(0, 1), plan, seeds, output_size, jpeg_round_trip, lambda: bar.update(1)
        )
        if alpha is not None:
            alpha = resize(alpha, damaged.shape[-2], damaged.shape[-1])
        steps = [f"seed {s}: {', '.join(map(str, draw_plan(plan, s)))}" for s in seeds]
        return io.NodeOutput(to_image(damaged, alpha), "\n".join(steps))


_SSIM = {"scikit-image": luma_ssim, "papers": papers_luma_ssim}
_ALONE = {"brisque": load_brisque, "clipiqa": load_clipiqa}
"""Figures of a picture without its original."""


def _sentence(figures: dict[str, float]) -> str:
    titles = {"clipiqa": "CLIP-IQA"}
    return ", ".join(
        f"{titles.get(name, name.upper())} {value:.{2 if name in ('psnr', 'brisque') else 4}f}"
        for name, value in figures.items()
    )


class RestorationMetrics(CheckedNode):
    """Figures against a clean original, computed as the papers compute them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationMetrics",
            display_name="Restoration Metrics",
            category="restoration/evaluate",
            description="Measures a restored picture against the clean original: PSNR and SSIM on "
            "the luma (Y) channel as super-resolution papers report them; on request LPIPS and DISTS, "
            "and BRISQUE and CLIP-IQA, which look at the restored picture alone.",
            search_aliases=[
                "psnr",
                "ssim",
                "lpips",
                "dists",
                "brisque",
                "clip-iqa",
                "compare images",
                "quality",
            ],
            is_output_node=True,
            advanced=("crop_border", "ssim_form"),
            inputs=[
                io.Image.Input("image", tooltip="The restored picture. Alpha is ignored."),
                io.Image.Input(
                    "reference",
                    tooltip="The clean original, exactly as large. One picture serves a batch.",
                ),
                io.Int.Input(
                    "crop_border",
                    default=0,
                    min=0,
                    max=1024,
                    tooltip="Pixels left out at every side. 0 measures everything; many papers "
                    "leave out as many as the scale, so 4 for x4.",
                ),
                io.Boolean.Input(
                    "lpips",
                    default=False,
                    tooltip="Also measures LPIPS (AlexNet), which is closer to how people judge. "
                    "Needs the package torchmetrics and torchvision's AlexNet weights.",
                ),
                io.Boolean.Input(
                    "dists",
                    default=False,
                    optional=True,
                    tooltip="Also measures DISTS, which forgives texture that is another but of the "
                    "same kind. Needs the package torchmetrics and torchvision's VGG16 weights.",
                ),
                io.Boolean.Input(
                    "brisque",
                    default=False,
                    optional=True,
                    tooltip="Also measures BRISQUE, of the restored picture alone: how far its local "
                    "contrast is from that of photographs. Needs the package piq and its weights.",
                ),
                io.Boolean.Input(
                    "clipiqa",
                    default=False,
                    optional=True,
                    tooltip="Also measures CLIP-IQA, of the restored picture alone: how much nearer "
                    "CLIP finds it to a good photo than to a bad one. Needs the package piq and its "
                    "CLIP weights.",
                ),
                io.Combo.Input(
                    "ssim_form",
                    options=list(_SSIM),
                    default="scikit-image",
                    optional=True,
                    tooltip="scikit-image: SSIM as its paper defines it. papers: as the toolbox of "
                    "restoration papers computes it, which rounds Y and takes a negative structure for "
                    "0; that is about 0.001 apart. Only figures of one form can be compared.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="psnr",
                    tooltip="dB, higher is closer, 100 for equal pictures. Mean over the batch.",
                ),
                io.Float.Output(
                    display_name="ssim",
                    tooltip="Higher is closer, 1 for equal pictures. Mean over the batch.",
                ),
                io.Float.Output(
                    display_name="lpips",
                    tooltip="Lower is closer, 0 for equal pictures; not a number when switched off.",
                ),
                io.String.Output(
                    display_name="text",
                    tooltip="The figures of every picture. Connect Preview Any to read them.",
                ),
                io.Float.Output(
                    display_name="dists",
                    tooltip="Lower is closer, 0 for equal pictures; not a number when switched off.",
                ),
                io.Float.Output(
                    display_name="brisque",
                    tooltip="Lower is more like a photograph, about 0 to 100; not a number when "
                    "switched off.",
                ),
                io.Float.Output(
                    display_name="clipiqa",
                    tooltip="Higher is better, 0 to 1; not a number when switched off.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        reference: Tensor,
        crop_border: int,
        lpips: bool,
        dists: bool = False,
        brisque: bool = False,
        clipiqa: bool = False,
        ssim_form: str = "scikit-image",
    ) -> io.NodeOutput:
        result, _ = from_image(image)
        original, _ = from_image(reference, "reference")
        original = match_batch(original, result.shape[0], "reference")
        chosen = {"psnr": luma_psnr, "ssim": _SSIM[ssim_form]}
        if lpips:
            chosen["lpips"] = perceptual_distance
        if dists:
            chosen["dists"] = structure_texture_distance
        figures = {name: f(result, original, crop_border).tolist() for name, f in chosen.items()}
        for name, wanted in (("brisque", brisque), ("clipiqa", clipiqa)):
            if wanted:
                figures[name] = figures_alone(_ALONE[name](), result, crop_border).tolist()
        means = {name: sum(values) / len(values) for name, values in figures.items()}
        rows = [dict(zip(figures, row, strict=True)) for row in zip(*figures.values(), strict=True)]
        text = _sentence(means)
        if len(rows) > 1:
            lines = [f"image {number}: {_sentence(row)}" for number, row in enumerate(rows, 1)]
            text = "\n".join([*lines, f"mean: {text}"])
        return io.NodeOutput(
            means["psnr"],
            means["ssim"],
            means.get("lpips", math.nan),
            text,
            *(means.get(name, math.nan) for name in ("dists", "brisque", "clipiqa")),
            ui=ui.PreviewText(text),
        )


class LRConsistency(CheckedNode):
    """Shows what a result says that its input did not."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LRConsistency",
            display_name="LR Consistency (Find Invented Detail)",
            category="restoration/evaluate",
            description="Makes the restored picture small again and compares it with the input it "
            "came from: how well they agree, where they do not, and a mask of those places. Needs "
            "no clean original.",
            search_aliases=["hallucination", "invented detail", "fidelity", "heatmap", "lr-psnr"],
            advanced=("softness",),
            inputs=[
                io.Image.Input(
                    "result", tooltip="The restored picture, as large as `lr` or larger."
                ),
                io.Image.Input(
                    "lr",
                    tooltip="The picture before restoration, at its own size. One picture serves "
                    "a batch of results.",
                ),
                io.Float.Input(
                    "threshold",
                    default=16.0,
                    min=0.0,
                    max=255.0,
                    step=0.5,
                    tooltip="Difference in 8-bit levels (0 to 255) above which a place counts as "
                    "invented. Choose it above the noise of the input, or that is marked too.",
                ),
                io.Float.Input(
                    "softness",
                    default=0.0,
                    min=0.0,
                    max=255.0,
                    step=0.5,
                    tooltip="The mask rises from 0 at the threshold to 1 so many levels above it. "
                    "0 makes a hard mask.",
                ),
                io.Float.Input(
                    "downscale",
                    default=1.0,
                    min=1.0,
                    max=64.0,
                    step=0.5,
                    tooltip="Compares at the size of `lr` divided by this. 1 compares at its own "
                    "size; 2 to 4 average the input's noise and compression away: 4 for inputs "
                    "that are noisy, heavily compressed, or no smaller than the result.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="psnr",
                    tooltip="Agreement in dB, 100 at most: higher is more faithful. Batch mean.",
                ),
                io.Image.Output(
                    display_name="heatmap",
                    tooltip="Black where they agree, through purple, red and orange to white at a "
                    "difference of 64 levels.",
                ),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="1 where the difference is above the threshold, on the result as it is. To "
                    "hold these places more firmly in a second run, connect it to the mask of its "
                    "Prepare Restoration, or of a Restore node: it then lies on the padded picture.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, result: Tensor, lr: Tensor, threshold: float, softness: float, downscale: float
    ) -> io.NodeOutput:
        restored, _ = from_image(result, "result")
        before, _ = from_image(lr, "lr")
        before = match_batch(before, restored.shape[0], "lr")
        found = lr_consistency(restored, before, downscale)
        return io.NodeOutput(
            float(found.psnr.mean()), to_image(found.heatmap()), found.mask(threshold, softness)
        )


NODES: list[type[io.ComfyNode]] = [RealWorldDegradation, RestorationMetrics, LRConsistency]
