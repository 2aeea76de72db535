"""PASD: load it, apply it, look at what its encoder cleans."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..common.fidelity import AUTHORS, control_strength
from ..common.images import to_image
from ..host.folders import KIND, SAME_FILE, network_files
from ..host.loading import fingerprint
from ..host.schema import CheckedNode, FileInput, fidelity_input, percent_range, schema
from ..pasd.attach import apply_pasd
from ..pasd.load import load_pasd
from ..pasd.run import preview_pyramid
from ..registry import naming

CATEGORY = "restoration/pasd"
PASDModelType = io.Custom("PASD_MODEL")


class PASDLoader(CheckedNode):
    """Files to PASD_MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PASDLoader",
            display_name="Load PASD",
            category=CATEGORY,
            description="Loads the pixel-aware attention and the control network of PASD, as they "
            "were published: pasd, pasd_light, their RRDB versions, the colorization model and "
            "PASD-SDXL. The kind is recognized from the weights. Use it with Apply PASD and any "
            "checkpoint of the same family.",
            search_aliases=["pasd", "load controlnet", "paca", "upscale", "colorize"],
            inputs=[
                FileInput(
                    "unet_name",
                    options=network_files(),
                    tooltip="From models/restoration: unet/diffusion_pytorch_model of a release. "
                    "Only the attention that PASD adds is taken from it; the rest comes from your "
                    "checkpoint. Another kind of file is refused with its name.",
                ),
                FileInput(
                    "control_net_name",
                    options=[SAME_FILE, *network_files()],
                    default=SAME_FILE,
                    tooltip="From models/restoration: controlnet/diffusion_pytorch_model of the "
                    "same release. The first entry is for a converted file, which holds both.",
                ),
            ],
            outputs=[
                PASDModelType.Output(
                    display_name="pasd_model", tooltip="For Apply PASD and PASD Pyramid Preview."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, unet_name: str, control_net_name: str) -> list[tuple[int, int]]:
        names = {unet_name, control_net_name} - {SAME_FILE}
        return [fingerprint(KIND, name) for name in sorted(names)]

    @classmethod
    def execute(cls, unet_name: str, control_net_name: str) -> io.NodeOutput:
        with naming():
            return io.NodeOutput(load_pasd(unet_name, control_net_name))


class PACAControlApply(CheckedNode):
    """MODEL that an image controls, pixel by pixel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PACAControlApply",
            display_name="Apply PASD",
            category=CATEGORY,
            description="Lets the photo steer every sampling step through PASD's control network "
            "and pixel-aware cross attention (PACA). Give it the very picture that is restored, "
            "already at output size. Chains with ControlNets, LoRAs and IPAdapter.",
            search_aliases=[
                "pasd",
                "paca",
                "apply controlnet",
                "super resolution",
                "stylize",
                "colorize",
            ],
            advanced=(
                "start_percent",
                "end_percent",
                "fidelity_mask",
                "fidelity_scale_fg",
                "fidelity_scale_bg",
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The checkpoint to draw with: Stable Diffusion 1.x, or SDXL for "
                    "PASD-SDXL. A personalized one changes the style.",
                ),
                PASDModelType.Input("pasd_model", tooltip="From Load PASD."),
                io.Image.Input(
                    "image",
                    tooltip="The photo from Prepare Restoration, of exactly the size that is "
                    "sampled. PASD cleans it by itself: no degradation remover before it. Gray "
                    "for the colorization model.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="1 is PASD's default; its demo uses 1.1 and allows 0.5 to 1.5. Lower "
                    "follows prompt and base model more (stronger style). 0 is not off: the added "
                    "attention still runs, without a picture. To turn PASD off, bypass this node "
                    "or use the percents.",
                ),
                *percent_range(
                    start="Part of the sampling before which the model is the plain one. 0: "
                    "PASD from the first step. Later starts lose the composition of the photo.",
                    end="Part of the sampling after which the model is the plain one. 1: PASD "
                    "to the last step. Ending earlier saves time and frees the finest detail.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where PASD acts, and how strongly: white fully, black is the plain "
                    "model. Any resolution. Not connected: everywhere.",
                ),
                io.Mask.Input(
                    "fidelity_mask",
                    optional=True,
                    tooltip="A part, such as faces, that follows the photo more or less closely "
                    "than the rest: white takes fidelity_scale_fg, black fidelity_scale_bg. Not "
                    "connected: both are without effect.",
                ),
                io.Float.Input(
                    "fidelity_scale_fg",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    optional=True,
                    tooltip="Multiplies strength where fidelity_mask is not black. 1 changes "
                    "nothing; the authors' example is 1.5. Without effect without a fidelity_mask.",
                ),
                io.Float.Input(
                    "fidelity_scale_bg",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    optional=True,
                    tooltip="Multiplies strength where fidelity_mask is black. 1 changes nothing; "
                    "the authors' example is 0.6. Without effect without a fidelity_mask.",
                ),
                fidelity_input("Multiplies strength by 0.5 to 1.5, the range of PASD's demo."),
            ],
            outputs=[io.Model.Output(tooltip="The model with PASD, for the sampler or guider.")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        pasd_model: object,
        image: Tensor,
        strength: float,
        start_percent: float,
        end_percent: float,
        mask: Tensor | None = None,
        fidelity_mask: Tensor | None = None,
        fidelity_scale_fg: float = 1.0,
        fidelity_scale_bg: float = 1.0,
        fidelity: float = AUTHORS,
    ) -> io.NodeOutput:
        scales = (fidelity_scale_fg, fidelity_scale_bg)
        return io.NodeOutput(
            apply_pasd(
                model,
                pasd_model,
                image,
                control_strength(strength, fidelity),
                start_percent,
                end_percent,
                mask,
                fidelity_mask,
                scales,
            )
        )


class PASDPyramidPreview(CheckedNode):
    """The image encoder's side outputs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="PASDPyramidPreview",
            display_name="PASD Pyramid Preview (What It Cleans)",
            category=CATEGORY,
            description="Shows what PASD's image encoder has understood of the photo: the three "
            "small pictures that it was trained to clean. Degradation that is still visible there "
            "will not be removed. A diagnosis; it changes nothing.",
            search_aliases=["pasd", "torgb", "degradation removal", "diagnose"],
            inputs=[
                PASDModelType.Input("pasd_model", tooltip="From Load PASD."),
                io.Image.Input(
                    "image", tooltip="The picture that Apply PASD gets. Any size and batch."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="half", tooltip="Cleaned, at half the size."),
                io.Image.Output(display_name="quarter", tooltip="Cleaned, at a quarter."),
                io.Image.Output(display_name="eighth", tooltip="Cleaned, at an eighth."),
            ],
        )

    @classmethod
    def execute(cls, pasd_model: object, image: Tensor) -> io.NodeOutput:
        return io.NodeOutput(*(to_image(rgb) for rgb in preview_pyramid(pasd_model, image)))


NODES: list[type[io.ComfyNode]] = [PASDLoader, PACAControlApply, PASDPyramidPreview]
