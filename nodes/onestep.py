"""Restoration in one step: OSEDiff and PiSA-SR."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..common.fidelity import AUTHORS, detail_scale
from ..host.folders import KIND, network_files
from ..host.loading import fingerprint
from ..host.one_step import one_step_of
from ..host.schema import CheckedNode, FileInput, fidelity_input, schema
from ..onestep.attach import apply_osediff, apply_pisasr
from ..onestep.load import load_onestep
from ..registry import naming

CATEGORY = "restoration/onestep"

OneStepModelType = io.Custom("ONESTEP_MODEL")


class OneStepLoader(CheckedNode):
    """File to ONESTEP_MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="OneStepLoader",
            display_name="Load One-Step Restorer",
            category=CATEGORY,
            description="Loads OSEDiff, OSEDiff for faces or PiSA-SR as they were published: small "
            "files of low-rank adapters that make Stable Diffusion 2.1 restore a photo in one step. "
            "The log says which one a file is. Use it with Apply OSEDiff or Apply PiSA-SR.",
            search_aliases=[
                "osediff",
                "pisa-sr",
                "pisasr",
                "one step",
                "load lora",
                "super resolution",
            ],
            inputs=[
                FileInput(
                    "onestep_name",
                    options=network_files(),
                    tooltip="From models/restoration: osediff.pkl, osediff_face.pkl or pisa_sr.pkl, "
                    "or a converted file. Another kind of file is refused with its name.",
                ),
            ],
            outputs=[
                OneStepModelType.Output(
                    display_name="onestep_model",
                    tooltip="For Apply OSEDiff or Apply PiSA-SR, whichever the file is of.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, onestep_name: str) -> tuple[int, int]:
        return fingerprint(KIND, onestep_name)

    @classmethod
    def execute(cls, onestep_name: str) -> io.NodeOutput:
        with naming():
            return io.NodeOutput(load_onestep(onestep_name))


class OSEDiffApply(CheckedNode):
    """MODEL and VAE that restore in one step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="OSEDiffApply",
            display_name="Apply OSEDiff",
            category=CATEGORY,
            description="Makes Stable Diffusion 2.1 base restore the encoded photo in one step, as "
            "OSEDiff does. Encode with the VAE this node gives, then KSampler with steps 1, cfg 1, "
            "euler, simple, denoise 1 and any seed. It adds to LoRAs, and Tiled Restoration tiles "
            "it. Prefer float16 or float32: bfloat16 leaves stains.",
            search_aliases=["osediff", "one step", "super resolution", "upscale", "restore faces"],
            advanced=("vae_strength",),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Stable Diffusion 2.1 base (512 pixels), or a fine-tune of it; LoRAs "
                    "may lie between.",
                ),
                io.Vae.Input(
                    "vae",
                    tooltip="Of the same checkpoint, or another of the SD 1.x and 2.x family. An "
                    "SDXL one fits, and gives wrong colors.",
                ),
                OneStepModelType.Input(
                    "onestep_model",
                    tooltip="From Load One-Step Restorer: OSEDiff or its face file.",
                ),
                io.Float.Input(
                    "strength",
                    display_name="adapter strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="Of the adapters, on model and VAE. 1 is OSEDiff; other values are no "
                    "dial of fidelity, because the step was trained at 1. 0 gives both back as "
                    "they came.",
                ),
                io.Float.Input(
                    "vae_strength",
                    display_name="adapter strength in the VAE",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    optional=True,
                    tooltip="Times strength, on the VAE's encoder alone. 1 is OSEDiff; 0 gives the "
                    "VAE back as it came.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="To KSampler: steps 1, cfg 1, euler, simple, denoise 1."),
                io.Vae.Output(
                    tooltip="To VAE Encode, before the sampler. Its decoder is the plain one, so "
                    "either VAE decodes."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        vae: Any,
        onestep_model: Any,
        strength: float,
        vae_strength: float = 1.0,
    ) -> io.NodeOutput:
        return io.NodeOutput(*apply_osediff(model, vae, onestep_model, strength, vae_strength))


class PiSASRApply(CheckedNode):
    """MODEL that restores in one step, with two dials."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PiSASRApply",
            display_name="Apply PiSA-SR",
            category=CATEGORY,
            description="Makes Stable Diffusion 2.1 base restore the encoded photo in one step, as "
            "PiSA-SR does, with a dial for the removal of damage and one for new detail. Use the "
            "checkpoint's own VAE and an empty prompt, then KSampler with steps 1, cfg 1, euler, "
            "simple, denoise 1 and any seed. It adds to LoRAs, and Tiled Restoration tiles it.",
            search_aliases=[
                "pisa-sr",
                "pisasr",
                "one step",
                "super resolution",
                "upscale",
                "fidelity",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="Stable Diffusion 2.1 base (512 pixels), or a fine-tune of it; LoRAs "
                    "may lie between.",
                ),
                OneStepModelType.Input(
                    "onestep_model", tooltip="From Load One-Step Restorer: PiSA-SR."
                ),
                io.Float.Input(
                    "lambda_pix",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="How much damage is removed. 1 is the authors'. Higher removes more and "
                    "finally smooths too much; 0 leaves it.",
                ),
                io.Float.Input(
                    "lambda_sem",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="How much detail is drawn. 1 is the authors'. Higher draws more and "
                    "finally invents; 0 draws none. Where the two dials differ the network runs "
                    "twice, in one call where memory allows.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where detail is drawn, and how strongly: white as lambda_sem says, "
                    "black none, while damage is removed everywhere. Any resolution. Not "
                    "connected: everywhere.",
                ),
                fidelity_input("Turns lambda_sem from one and a half times its value to 0."),
            ],
            outputs=[
                io.Model.Output(tooltip="To KSampler: steps 1, cfg 1, euler, simple, denoise 1.")
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        onestep_model: Any,
        lambda_pix: float,
        lambda_sem: float,
        mask: Tensor | None = None,
        fidelity: float = AUTHORS,
    ) -> io.NodeOutput:
        turned = detail_scale(lambda_sem, fidelity)
        return io.NodeOutput(apply_pisasr(model, onestep_model, lambda_pix, turned, mask))


class OneStepSigmas(CheckedNode):
    """SIGMAS of the one step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="OneStepSigmas",
            display_name="One-Step Scheduler",
            category=CATEGORY,
            description="The single step of Apply OSEDiff or Apply PiSA-SR, for SamplerCustomAdvanced "
            "and the other samplers that take SIGMAS. KSampler needs no such node.",
            search_aliases=["scheduler", "osediff", "pisa-sr", "one step"],
            inputs=[io.Model.Input("model", tooltip="From Apply OSEDiff or Apply PiSA-SR.")],
            outputs=[io.Sigmas.Output(tooltip="To the sampler: from the one noise level to 0.")],
        )

    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        sampling = one_step_of(model)
        if sampling is None:
            raise ValueError(
                "`model` is no one-step model. Connect the MODEL of Apply OSEDiff or Apply PiSA-SR."
            )
        return io.NodeOutput(torch.tensor([float(sampling.sigma_max), 0.0]))


NODES: list[type[io.ComfyNode]] = [OneStepLoader, OSEDiffApply, PiSASRApply, OneStepSigmas]
