"""DiffBIR's control branch: load it, apply it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..common.fidelity import AUTHORS, control_strength
from ..diffbir.attach import apply_latent_control
from ..diffbir.load import load_diffbir_control
from ..host.areas import Conditioning
from ..host.loading import fingerprint, model_files
from ..host.schema import CheckedNode, FileInput, fidelity_input, percent_range, schema
from ..registry import naming

FOLDER = "controlnet"


class DiffBIRControlLoader(CheckedNode):
    """File to CONTROL_NET."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DiffBIRControlLoader",
            display_name="Load DiffBIR ControlNet",
            category="restoration/diffbir",
            description="Loads the control network of DiffBIR, versions 1, 2 and 2.1, as it was "
            "published: v2.pth, v1_general.pth, v1_face.pth, DiffBIR_v2.1.pt or the full files of "
            "version 1. Use it with Apply LA Control and a Stable Diffusion 2.1 checkpoint.",
            search_aliases=["diffbir", "load controlnet", "ircontrolnet"],
            inputs=[
                FileInput(
                    "control_net_name",
                    options=model_files(FOLDER),
                    tooltip="A file from models/controlnet. Version 2 suits most photos; 2.1 also "
                    "needs its own base checkpoint. Another kind of file is refused with its name.",
                ),
            ],
            outputs=[
                io.ControlNet.Output(
                    tooltip="For Apply LA Control, or for core's Apply ControlNet with a VAE."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, control_net_name: str) -> tuple[int, int]:
        return fingerprint(FOLDER, control_net_name)

    @classmethod
    def execute(cls, control_net_name: str) -> io.NodeOutput:
        with naming():
            return io.NodeOutput(load_diffbir_control(control_net_name))


class LAControlApply(CheckedNode):
    """CONDITIONING that a latent controls."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LAControlApply",
            display_name="Apply LA Control (DiffBIR)",
            category="restoration/diffbir",
            description="Lets the latent of the cleaned photo steer every sampling step, as "
            "DiffBIR does. Give it the latent of the very picture that is restored: same size, "
            "not an empty latent. Chains with other ControlNets.",
            search_aliases=["diffbir", "apply controlnet", "lacontrolnet"],
            advanced=("start_percent", "end_percent", "noise_aug", "noise_aug_seed"),
            inputs=[
                io.Conditioning.Input("positive", tooltip="What the result should show."),
                io.Conditioning.Input(
                    "negative", tooltip="What it should not show. Without effect at cfg 1."
                ),
                io.ControlNet.Input("control_net", tooltip="From Load DiffBIR ControlNet."),
                io.Latent.Input(
                    "latent",
                    tooltip="VAE Encode of the photo after Remove Degradation. Degradation that is "
                    "left in it will be restored too, as if it were detail.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="1 is DiffBIR. Lower lets the prompt and the base model invent more; "
                    "0 is no control at all.",
                ),
                *percent_range(
                    start="Part of the sampling before which there is no control. 0: from the "
                    "first step. Later starts lose the composition of the photo.",
                    end="Part of the sampling after which there is no control. 1: to the last "
                    "step. Ending earlier saves time and frees the finest detail.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the control acts, and how strongly: white fully, black not at "
                    "all. Any resolution. Not connected: everywhere.",
                ),
                io.Int.Input(
                    "noise_aug",
                    default=0,
                    min=0,
                    max=999,
                    optional=True,
                    tooltip="Noise mixed into the latent, as a training timestep. More makes the "
                    "result less faithful and more inventive, which helps badly damaged photos; "
                    "the authors of version 2.1 go up to 200. 0 adds none.",
                ),
                io.Int.Input(
                    "noise_aug_seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    optional=True,
                    tooltip="Which noise noise_aug mixes in. Without effect while that is 0.",
                ),
                fidelity_input("Multiplies strength by 0.5 to 1.5."),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="To the sampler, or to the next ControlNet."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="To the sampler, or to the next ControlNet."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: Conditioning,
        negative: Conditioning,
        control_net: object,
        latent: dict[str, Any],
        strength: float,
        start_percent: float,
        end_percent: float,
        mask: Tensor | None = None,
        noise_aug: int = 0,
        noise_aug_seed: int = 0,
        fidelity: float = AUTHORS,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            *apply_latent_control(
                positive,
                negative,
                control_net,
                latent,
                control_strength(strength, fidelity),
                start_percent,
                end_percent,
                mask,
                noise_aug,
                noise_aug_seed,
            )
        )


NODES: list[type[io.ComfyNode]] = [DiffBIRControlLoader, LAControlApply]
