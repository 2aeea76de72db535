"""DiffBIR's patches of the model: its exact noise levels, and restoration guidance. And DDNM's
projection of what the model predicts onto what is known."""

from __future__ import annotations

from typing import Any, cast, get_args

from comfy_api.latest import io
from torch import Tensor

from ..common.fidelity import AUTHORS, guidance_scale
from ..common.images import from_image
from ..common.latents import from_latent
from ..diffbir.guide import Comparison, LatentGuidance, PixelDifference, RgbGuidance
from ..diffbir.losses import LatentLoss, RgbLoss, edge_weights
from ..diffbir.sampler import Version, diffbir_model_sampling
from ..host.masks import where_to_act
from ..host.sampling import check_schedule
from ..host.schema import CheckedNode, KnownDegradationType, fidelity_input, percent_range, schema
from ..host.x0_guidance import add_guidance
from ..zeroshot.comparison import Degraded, UnknownLight
from ..zeroshot.degradation import check_known
from ..zeroshot.guide import LatentNullSpace, PixelNullSpace, Trust, check_levels
from ..zeroshot.operators import Degradation, operator_for

CATEGORY = "restoration/diffbir"
EXPOSURE = "rgb_exposure"
RGB_LOSSES: tuple[str, ...] = (*get_args(RgbLoss), EXPOSURE)
LOSSES: tuple[str, ...] = (*get_args(LatentLoss), *RGB_LOSSES)


class DiffBIRModelSampling(CheckedNode):
    """The noise levels that a DiffBIR base model was trained with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DiffBIRModelSampling",
            display_name="DiffBIR Model Sampling (Noise Levels)",
            category=CATEGORY,
            description="Tells ComfyUI which base a DiffBIR control belongs to. v2.1 needs it: "
            "its base predicts v and starts from pure noise, and ComfyUI only guesses that from "
            "the file. v1 and v2 run on any Stable Diffusion 2.1 base as it is.",
            search_aliases=["v prediction", "zero terminal snr", "zsnr", "model sampling discrete"],
            advanced=("timesteps",),
            inputs=[
                io.Model.Input(
                    "model", tooltip="Stable Diffusion 2.1-base, or DiffBIR's v2.1 base."
                ),
                io.Combo.Input(
                    "version",
                    options=["eps", "v2.1"],
                    default="v2.1",
                    tooltip="v2.1: v prediction with zero terminal SNR, for "
                    "sd2.1-base-zsnr-laionaes5. eps: for v1 and v2, and changes nothing on an "
                    "ordinary base. The wrong one gives noise or a gray picture.",
                ),
                io.Combo.Input(
                    "timesteps",
                    options=["nearest", "interpolated"],
                    default="nearest",
                    optional=True,
                    tooltip="What the network is told between two of its 1000 noise levels. "
                    "nearest: the closer level, as ComfyUI does. interpolated: the fraction, as "
                    "DPM-Solver does; needed for the authors' numbers with diffbir_dpmpp_m2. No "
                    "difference for the other schedules of Restoration Sigmas.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with exactly DiffBIR's noise levels.")],
        )

    @classmethod
    def execute(cls, model: Any, version: Version, timesteps: str = "nearest") -> io.NodeOutput:
        patched = model.clone()
        sampling = diffbir_model_sampling(model, version, timesteps == "interpolated")
        patched.add_object_patch("model_sampling", sampling)
        return io.NodeOutput(patched)


class LatentImageGuidance(CheckedNode):
    """DiffBIR's restoration guidance: fidelity to the stage-1 picture against invented detail."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LatentImageGuidance",
            display_name="Latent Image Guidance (Closer to a Picture)",
            category=CATEGORY,
            description="Pulls every step's prediction toward a reference, usually the degradation "
            "remover's output: more faithful, smoother. The latent losses cost nothing. The rgb "
            "losses decode and differentiate through the VAE at every step and repeat: a guided "
            "step takes three to six times as long and needs the decoder's activations in memory. "
            "Works with any sampler, under tiles, and several in a chain.",
            search_aliases=["restoration guidance", "mse guidance", "fidelity", "diffbir"],
            advanced=("repeat", "start_percent", "end_percent"),
            inputs=[
                io.Model.Input("model", tooltip="Any Stable Diffusion model with eps or v."),
                io.Combo.Input(
                    "loss",
                    options=list(LOSSES),
                    default="latent_mse",
                    tooltip="latent_mse: the whole picture, needs `latent`. rgb_mse: the same in "
                    "pixels, needs `image` and `vae`. rgb_weighted_mse: flat areas only, edges and "
                    "texture stay free; DiffBIR's example uses it. latent_mse_v1: the first "
                    "version's rule, with scales around 200 and repeat 5. rgb_exposure: `image` is "
                    "too dark or too bright, by how much is found while sampling (GDP); scales "
                    "around 100 at 512 pixels.",
                ),
                io.Float.Input(
                    "scale",
                    display_name="guidance scale",
                    default=0.5,
                    min=0.0,
                    max=10000.0,
                    step=0.01,
                    tooltip="Strength. Larger is smoother and closer to the reference; 0 disables. "
                    "0.5 is DiffBIR's example (its script has 0, off). Its effect halves when the "
                    "number of pixels doubles. Without effect at fidelity 0.",
                ),
                io.Int.Input(
                    "repeat",
                    default=1,
                    min=1,
                    max=100,
                    tooltip="Moves per step. More pulls harder; the rgb losses take that much "
                    "longer. 1 is v2's default, 5 that of v1.",
                ),
                *percent_range(
                    start="Where guidance begins. 0: from the first step, the authors' default.",
                    end="Where it ends. 1: with the last step, the authors' default. Ending "
                    "earlier leaves fine texture to the model.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="For the latent losses: the reference, encoded, at the size that is "
                    "sampled. One serves a whole batch.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="For the rgb losses: the reference, exactly the size that is sampled.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="For the rgb losses: decodes."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where guidance acts, and how strongly: 1 fully, 0 not at all. Any "
                    "size. Without it, everywhere.",
                ),
                fidelity_input("Multiplies scale by 0 (no guidance) to 2."),
                KnownDegradationType.Input(
                    "known_degradation",
                    optional=True,
                    tooltip="For rgb_mse: what happened to `image`, from Known Degradation. The "
                    "picture is compared after the same, so what it took away stays free. Pulls, "
                    "where DDNM Guidance replaces.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The guided model.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        loss: str,
        scale: float,
        repeat: int,
        start_percent: float,
        end_percent: float,
        latent: dict[str, Any] | None = None,
        image: Tensor | None = None,
        vae: Any = None,
        mask: Tensor | None = None,
        fidelity: float = AUTHORS,
        known_degradation: Any = None,
    ) -> io.NodeOutput:
        check_schedule(model.get_model_object("model_sampling"))
        if known_degradation is not None and loss != "rgb_mse":
            raise ValueError(
                f"`known_degradation` is for the loss rgb_mse, not for {loss}. Choose rgb_mse with "
                "`image` and `vae`, or disconnect it."
            )
        scale = guidance_scale(scale, fidelity)
        patched = model.clone()
        where = where_to_act(mask)
        if scale == 0 or (where is not None and not where.any()):
            return io.NodeOutput(patched)
        settings = scale, repeat, (start_percent, end_percent), where
        if loss in RGB_LOSSES:
            if image is None or vae is None:
                raise ValueError(
                    f"The loss {loss} compares pictures: connect `image` (the degradation "
                    "remover's output) and `vae`, or choose latent_mse and connect `latent`."
                )
            pixels, _ = from_image(image)
            target = pixels * 2 - 1
            compare = _comparison(loss, target, known_degradation)
            guidance = RgbGuidance(target, vae, compare, *settings)
        else:
            if latent is None:
                raise ValueError(
                    f"The loss {loss} compares latents: connect `latent` (the degradation "
                    "remover's output through VAE Encode), or choose an rgb loss."
                )
            target = model.get_model_object("latent_format").process_in(from_latent(latent))
            guidance = LatentGuidance(target, cast(LatentLoss, loss), *settings)
        add_guidance(patched, guidance)
        return io.NodeOutput(patched)


def _comparison(loss: str, target: Tensor, known_degradation: Any) -> Comparison:
    """What an rgb loss compares a decoded picture with the target by."""
    if loss == EXPOSURE:
        return UnknownLight()
    if known_degradation is not None:
        return Degraded(check_known(known_degradation).operator())
    return PixelDifference(edge_weights(target) if loss == "rgb_weighted_mse" else None)


class DDNMGuidance(CheckedNode):
    """What is measured stays, what the measurement does not tell is the model's."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DDNMGuidance",
            display_name="DDNM Guidance (Keep What Is Known)",
            category="restoration/guidance",
            description="Undoes a known degradation without training: at every step the part of "
            "the prediction that the degraded picture determines is replaced by what it says "
            "(DDNM's null-space projection). On a latent it costs nothing, but holds for latent "
            "cells, which are no pixels; on an image it holds for pixels, as well as the VAE "
            "repeats them, and takes a VAE decode and encode a step.",
            search_aliases=["null space", "super resolution", "inpaint", "fidelity", "grayscale"],
            advanced=("noise_level", "every"),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Any Stable Diffusion model with eps or v, also one that restores in one step.",
                ),
                io.Combo.Input(
                    "degradation",
                    options=list(get_args(Degradation)),
                    default="average_pool",
                    tooltip="What is known of the reference. average_pool: the means of blocks of "
                    "`scale`, for super-resolution. inpaint: every pixel under `mask`. grayscale: "
                    "the brightness, for colorization; needs `image` and `vae`.",
                ),
                io.Int.Input(
                    "scale",
                    display_name="block size",
                    default=4,
                    min=1,
                    max=64,
                    tooltip="Only for average_pool: side of the blocks, in latent cells (8 pixels) "
                    "or, with an image, in pixels. Larger fixes less of the picture; 1 fixes all "
                    "of it.",
                ),
                io.Float.Input(
                    "strength",
                    display_name="trust",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 meets the reference exactly, lower trusts it less, which suits a "
                    "noisy one. 0 disables.",
                ),
                *percent_range(
                    start="Where the projection begins. 0: from the first step, as in the paper.",
                    end="Where it ends. 1: with the last step, as in the paper. Ending earlier "
                    "lets the model smooth seams and remove the reference's noise.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The reference, encoded, at the size that is sampled (for average_pool "
                    "also the small one). For average_pool and inpaint; without effect when "
                    "`image` is connected.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The reference, at the size that is sampled, or for average_pool the "
                    "small picture itself. Needs `vae`.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Only with `image`: decodes and encodes each step.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the reference is known: 1 fully, 0 not at all. For inpaint, the "
                    "painted hole inverted. Any size. Without it, everywhere.",
                ),
                KnownDegradationType.Input(
                    "known_degradation",
                    optional=True,
                    tooltip="From Known Degradation: what happened to the reference, in place of "
                    "`degradation` and `scale`, which are then without effect.",
                ),
                io.Float.Input(
                    "noise_level",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    optional=True,
                    tooltip="Standard deviation of the reference's noise, for pictures in 0..1: 0.02 "
                    "is slight grain, 0.1 strong. The more, the less late steps follow the "
                    "reference, so its noise is not copied. 0: it has none.",
                ),
                io.Int.Input(
                    "every",
                    default=1,
                    min=1,
                    max=100,
                    optional=True,
                    tooltip="Compares at every so many steps, the last one always. 2 halves the time "
                    "that the VAE takes with `image`. 1: at every step, as in the paper.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model that agrees with the reference.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        degradation: Degradation,
        scale: int,
        strength: float,
        start_percent: float,
        end_percent: float,
        latent: dict[str, Any] | None = None,
        image: Tensor | None = None,
        vae: Any = None,
        mask: Tensor | None = None,
        known_degradation: Any = None,
        noise_level: float = 0.0,
        every: int = 1,
    ) -> io.NodeOutput:
        trust = Trust(strength, noise_level, every)
        check_levels(model.get_model_object("model_sampling"), trust)
        patched = model.clone()
        where = where_to_act(mask)
        if strength == 0 or (where is not None and not where.any()):
            return io.NodeOutput(patched)
        operator, what = operator_for(degradation, scale), str(degradation)
        needs_pixels = degradation == "grayscale"
        if known_degradation is not None:
            known = check_known(known_degradation)
            operator, needs_pixels, what = known.operator(), known.needs_pixels, str(known)
        settings = operator, trust, (start_percent, end_percent), where
        if image is not None and vae is not None:
            pixels, _ = from_image(image)
            guidance = PixelNullSpace(pixels, vae, *settings)
        elif image is not None or needs_pixels:
            raise ValueError(
                f"The degradation {what} is to be undone in pixels: connect both `image` "
                "(the reference) and `vae`."
            )
        elif latent is not None:
            target = model.get_model_object("latent_format").process_in(from_latent(latent))
            guidance = LatentNullSpace(target, *settings)
        else:
            raise ValueError(
                "DDNM needs the picture that is known: connect `latent` (VAE Encode), or `image` "
                "and `vae` to work in pixels."
            )
        add_guidance(patched, guidance)
        return io.NodeOutput(patched)


NODES: list[type[io.ComfyNode]] = [DiffBIRModelSampling, LatentImageGuidance, DDNMGuidance]
