"""StyleID: the style of one picture on the content of another, without training."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..common.fidelity import AUTHORS, between
from ..common.images import match_batch
from ..common.latents import from_latent
from ..host.schema import CheckedNode, fidelity_input, percent_range, schema
from ..styleid.attach import Style, apply_styleid
from ..styleid.features import FeatureMode, StyleFeatures
from ..styleid.injection import LAYERS, adain, parse_layers
from ..styleid.inversion import MAX_STEPS, MIN_STEPS, Convention
from ..styleid.run import Inversion, invert

CATEGORY = "restoration/style"
AUTHORS_LAYERS = ",".join(map(str, LAYERS))
StyleFeaturesType = io.Custom("STYLE_FEATURES")


class StyleIDInvert(CheckedNode):
    """A picture back to the noise it would come from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="StyleIDInvert",
            display_name="DDIM Invert (StyleID: Picture to Noise)",
            category=CATEGORY,
            description="Runs the model backwards from a picture to noise and remembers what its "
            "decoder attended to on the way. StyleID needs it once for the content and once for "
            "the style; one style serves any number of contents. Takes as long as sampling with "
            "cfg 1.",
            search_aliases=["styleid", "ddim inversion", "style transfer", "unsampler"],
            advanced=("convention", "layers", "features"),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Stable Diffusion 1.x or 2.x. With the LoRA that will be sampled with: "
                    "another model gives features that do not fit.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="The empty prompt, as the authors have it. With a text the picture is "
                    "inverted as a picture of that.",
                ),
                io.Latent.Input(
                    "latent",
                    tooltip="VAE Encode of the content or the style. Sides of a multiple of 64 "
                    "pixels fit the network best.",
                ),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=MIN_STEPS,
                    max=MAX_STEPS,
                    tooltip="More keep the picture better and take more time and memory. The "
                    "authors use 50, or 20 for speed. The same for content and style.",
                ),
                io.Combo.Input(
                    "convention",
                    options=["diffusers", "ldm"],
                    default="diffusers",
                    tooltip="Which of the authors' two programs. diffusers: consistent levels, the "
                    "neutral choice. ldm: the code of the paper, which goes on to the noisiest "
                    "level and skips a step on the way back. The same for content and style.",
                ),
                io.String.Input(
                    "layers",
                    default=AUTHORS_LAYERS,
                    tooltip="Self-attentions of the decoder to remember, 3 to 11. The authors' six "
                    "by default; fewer save memory. Empty: only the inverted latent. "
                    "Without effect where features is lockstep.",
                ),
                io.Combo.Input(
                    "features",
                    options=["cpu_fp16", "cpu_fp32", "lockstep"],
                    default="cpu_fp16",
                    tooltip="cpu_fp16: remembered in RAM, 0.6 GiB for one picture of 512 px and 50 "
                    "steps. cpu_fp32: twice that, exact. lockstep: almost no memory; content and "
                    "style run again beside the sampling, whose steps take about three times as "
                    "long, and both need one size. The same for content and style.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="inverted",
                    tooltip="The picture as noise. Sampled without noise it gives the picture back.",
                ),
                StyleFeaturesType.Output(
                    display_name="style_features", tooltip="For Apply StyleID, in either place."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        conditioning: list[Any],
        latent: dict[str, Any],
        steps: int,
        convention: Convention,
        layers: str,
        features: FeatureMode,
    ) -> io.NodeOutput:
        settings = Inversion(steps, convention, parse_layers(layers), features)
        return io.NodeOutput(*invert(model, conditioning, latent, settings))


class StyleIDApply(CheckedNode):
    """A model that paints the content in the style."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="StyleIDApply",
            display_name="Apply StyleID",
            category=CATEGORY,
            description="Lets the decoder's self-attention ask with the content and see the "
            "style. Sample the LATENT with the SIGMAS, Disable Noise, sampler euler and cfg 1, "
            "with the empty prompt. Every picture of a content batch gets the style.",
            search_aliases=["styleid", "style transfer", "style injection", "kv injection"],
            advanced=("temperature", "layers", "start_percent", "end_percent"),
            inputs=[
                io.Model.Input("model", tooltip="The model that both pictures were inverted with."),
                StyleFeaturesType.Input(
                    "content",
                    tooltip="From DDIM Invert: what is shown. One picture or a batch.",
                ),
                StyleFeaturesType.Input(
                    "style",
                    tooltip="From DDIM Invert: how it is painted. One picture for all, or one for "
                    "each content. Any size, except in lockstep.",
                ),
                io.Float.Input(
                    "gamma",
                    default=0.75,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="How much the content decides what goes where. 0.75 is the authors' "
                    "default; 0.3 gives more style, 1 keeps the content best, 0 leaves the layout "
                    "to the stylized picture itself. "
                    "Without effect at fidelity 0 and 1, which set it.",
                ),
                io.Float.Input(
                    "temperature",
                    default=1.5,
                    min=0.1,
                    max=10.0,
                    step=0.01,
                    tooltip="Sharpens the attention, which the mixture flattens: lower is blurrier "
                    "texture. 1.5 is the authors' default, 1 leaves it as it is.",
                ),
                io.String.Input(
                    "layers",
                    default=AUTHORS_LAYERS,
                    tooltip="Where style is injected: blocks of the decoder that were inverted "
                    "with. Later ones carry finer texture; fewer are nearer to the content. "
                    "Empty: nothing is injected.",
                ),
                io.Boolean.Input(
                    "adain",
                    default=True,
                    tooltip="Start from the content with the style's color statistics. Off keeps "
                    "the content's colors more.",
                ),
                *percent_range(
                    start="Where injection begins. 0: from the first step, as the authors.",
                    end="Where it ends. 1: with the last step, as the authors. 0 turns "
                    "injection off.",
                ),
                fidelity_input("Moves gamma toward 0 or toward 1; here the photo is the content."),
            ],
            outputs=[
                io.Model.Output(tooltip="The model that injects; for the guider."),
                io.Latent.Output(
                    tooltip="Where to start. It already is noise: sample it with Disable Noise."
                ),
                io.Sigmas.Output(tooltip="The steps that features exist for."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        content: StyleFeatures,
        style: StyleFeatures,
        gamma: float,
        temperature: float,
        layers: str,
        adain: bool,
        start_percent: float,
        end_percent: float,
        fidelity: float = AUTHORS,
    ) -> io.NodeOutput:
        percent = (start_percent, end_percent)
        gamma = between(0.0, gamma, 1.0, fidelity)
        settings = Style(gamma, temperature, parse_layers(layers), percent)
        return io.NodeOutput(*apply_styleid(model, content, style, settings, adain))


class LatentAdaIN(CheckedNode):
    """The mean and deviation of one latent on another."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LatentAdaIN",
            display_name="Latent AdaIN (Match Colors)",
            category=CATEGORY,
            description="Gives a latent the mean and the standard deviation of another, channel by "
            "channel: its overall colors and contrast. Both clean, or both inverted to the same "
            "noise level. Apply StyleID does this by itself.",
            search_aliases=["adaptive instance normalization", "color match latent", "styleid"],
            inputs=[
                io.Latent.Input("latent", tooltip="The latent to change."),
                io.Latent.Input(
                    "reference",
                    tooltip="The latent whose statistics to take, of any size. One for all "
                    "pictures, or one each.",
                ),
                io.Float.Input(
                    "strength",
                    display_name="amount",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="1 takes the statistics over fully, 0 changes nothing.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The latent with the reference's statistics.")],
        )

    @classmethod
    def execute(
        cls, latent: dict[str, Any], reference: dict[str, Any], strength: float
    ) -> io.NodeOutput:
        samples = from_latent(latent)
        by = from_latent(reference, "reference").to(samples)
        by = match_batch(by, samples.shape[0], "reference")
        if by.shape[1] != samples.shape[1]:
            raise ValueError(
                f"`reference` has {by.shape[1]} channels, `latent` {samples.shape[1]}: they come "
                "from different VAEs. Encode both with the same one."
            )
        return io.NodeOutput(
            latent | {"samples": torch.lerp(samples, adain(samples, by), strength)}
        )


NODES: list[type[io.ComfyNode]] = [StyleIDInvert, StyleIDApply, LatentAdaIN]
