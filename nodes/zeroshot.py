"""What is known of a damaged picture, and the authors' own samplers for it."""

from __future__ import annotations

from typing import Any, get_args

from comfy_api.latest import io
from torch import Tensor

from ..common.images import from_mask
from ..host.schema import CheckedNode, KnownDegradationType, percent_range, schema
from ..zeroshot import degradation
from ..zeroshot.degradation import Kind, check_known
from ..zeroshot.sampler import Method, ZeroShot, time_travel, zero_shot_sampler

SAMPLING = "restoration/sampling"


def _jumps(length: int, repeats: int, plain: str) -> list[io.Input]:
    """plain: what one repeat is."""
    return [
        io.Int.Input(
            "jump_length",
            default=length,
            min=1,
            max=100,
            tooltip="How many steps a jump goes back. Longer harmonizes larger shapes; it must be "
            "shorter than the run.",
        ),
        io.Int.Input(
            "jump_repeats",
            default=repeats,
            min=1,
            max=100,
            tooltip=f"How often each part of the run is gone through, which takes as many times as "
            f"long. 1: {plain}.",
        ),
    ]


class KnownDegradation(CheckedNode):
    """One step of what happened to a picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="KnownDegradation",
            display_name="Known Degradation",
            category="restoration/guidance",
            description="Says what happened to a picture, for DDNM Guidance: made small, blurred, made "
            "gray, damaged in places, saved as JPEG. Chain several by `before`, in the order in which "
            "they happened. The guidance then finds the pictures that this could have been made of.",
            search_aliases=[
                "zero-shot",
                "super resolution",
                "deblur",
                "black and white",
                "jpeg",
                "inpaint",
            ],
            inputs=[
                io.Combo.Input(
                    "kind",
                    options=list(get_args(Kind)),
                    default="bicubic",
                    tooltip="bicubic: made small as by most software. average_pool: made small by "
                    "block means, also with cut blocks. gaussian_blur: out of focus; give DDNM "
                    "Guidance a noise_level with it. grayscale: the mean of the channels. luma: gray "
                    "as photo software makes it. inpaint: known where `mask` is white. jpeg: saved at "
                    "`quality`.",
                ),
                io.Int.Input(
                    "scale",
                    display_name="times smaller",
                    default=4,
                    min=2,
                    max=64,
                    tooltip="Only for bicubic and average_pool: how many times smaller a side became. "
                    "For bicubic the sides of the result must be multiples of it.",
                ),
                io.Float.Input(
                    "blur_sigma",
                    default=2.0,
                    min=0.1,
                    max=64.0,
                    step=0.1,
                    tooltip="Only for gaussian_blur: its width (standard deviation) in pixels.",
                ),
                io.Int.Input(
                    "quality",
                    default=75,
                    min=1,
                    max=100,
                    tooltip="Only for jpeg: the quality it was saved with. One that is too low blurs.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Only for inpaint: white where the picture is known, black in the hole, at "
                    "the size of the picture that you have.",
                ),
                KnownDegradationType.Input(
                    "before",
                    optional=True,
                    tooltip="What happened to the picture before this: another Known Degradation. A "
                    "mask and JPEG come last.",
                ),
            ],
            outputs=[
                KnownDegradationType.Output(
                    display_name="known_degradation", tooltip="For DDNM Guidance, or for `before`."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        kind: Kind,
        scale: int,
        blur_sigma: float,
        quality: int,
        mask: Tensor | None = None,
        before: Any = None,
    ) -> io.NodeOutput:
        known = degradation.KnownDegradation(
            kind,
            scale,
            blur_sigma,
            quality,
            from_mask(mask) if mask is not None and kind == "inpaint" else None,
            None if before is None else check_known(before, "before"),
        )
        known.check()
        return io.NodeOutput(known)


class ZeroShotSampler(CheckedNode):
    """SAMPLER by the authors' own updates."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="ZeroShotSampler",
            display_name="Zero-Shot Sampler",
            category=SAMPLING,
            description="The samplers of the zero-shot papers, to the digit: DDNM, DDRM (which is "
            "DDNM+) and RePaint. DDNM and DDRM use what DDNM Guidance knows, by their own rules; "
            "RePaint fills the latent's noise mask. Any other sampler uses the guidance too, only "
            "not by these rules.",
            search_aliases=["ddnm", "ddrm", "repaint", "inpaint", "zero-shot"],
            inputs=[
                io.Combo.Input(
                    "method",
                    options=list(get_args(Method)),
                    default="ddnm",
                    tooltip="ddnm: ends exactly at the measurement; also through a VAE. ddrm: for "
                    "noisy measurements of latents; ends with the model's picture. repaint: fills "
                    "Set Latent Noise Mask, best with jumps.",
                ),
                io.Float.Input(
                    "eta",
                    default=0.85,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of fresh noise in every step, as the papers have it. 0: none. "
                    "Without effect for repaint.",
                ),
                io.Float.Input(
                    "eta_b",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Only for ddrm: how closely it follows what the measurement is sure of. "
                    "1 is the paper's.",
                ),
                *_jumps(1, 1, "no jumps"),
            ],
            outputs=[io.Sampler.Output(tooltip="For SamplerCustomAdvanced and SamplerCustom.")],
        )

    @classmethod
    def execute(
        cls, method: Method, eta: float, eta_b: float, jump_length: int, jump_repeats: int
    ) -> io.NodeOutput:
        settings = ZeroShot(method, eta, eta_b, jump_length, jump_repeats)
        return io.NodeOutput(zero_shot_sampler(settings))


class TimeTravelSampler(CheckedNode):
    """SAMPLER -> SAMPLER with RePaint's resampling."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="TimeTravelSampler",
            display_name="Time Travel (Resampling)",
            category=SAMPLING,
            description="RePaint's resampling around any sampler: the run goes back under noise again "
            "and again, so that what is known and what is drawn grow together. For inpainting with "
            "any checkpoint, and for DDNM Guidance.",
            search_aliases=["repaint", "resample", "restart sampling", "inpaint", "harmonize"],
            advanced=("start_percent", "end_percent"),
            inputs=[
                io.Sampler.Input(
                    "sampler", tooltip="The sampler that runs every part, from KSamplerSelect."
                ),
                *_jumps(10, 3, "the sampler alone, bit for bit"),
                *percent_range(
                    start="The part of the run before which it never jumps. 0: from the beginning.",
                    end="The part after which it never jumps. Ending at 0.8 saves time where only "
                    "fine texture is left.",
                ),
            ],
            outputs=[io.Sampler.Output(tooltip="For SamplerCustomAdvanced and SamplerCustom.")],
        )

    @classmethod
    def execute(
        cls,
        sampler: Any,
        jump_length: int,
        jump_repeats: int,
        start_percent: float,
        end_percent: float,
    ) -> io.NodeOutput:
        percent = (start_percent, end_percent)
        return io.NodeOutput(time_travel(sampler, jump_length, jump_repeats, percent))


NODES: list[type[io.ComfyNode]] = [KnownDegradation, ZeroShotSampler, TimeTravelSampler]
