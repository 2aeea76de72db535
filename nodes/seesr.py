"""SeeSR: the tagger, the networks, and the patch."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..common.fidelity import AUTHORS, control_strength
from ..common.images import from_image
from ..host.folders import KIND, SAME_FILE, network_files
from ..host.loading import fingerprint
from ..host.schema import CheckedNode, FileInput, fidelity_input, percent_range, schema
from ..registry import naming
from ..seesr.attach import apply_seesr
from ..seesr.load import load_seesr
from ..tagger.load import NO_LORA, load_tagger
from ..tagger.run import run_tagger

CATEGORY = "restoration/seesr"
DapeModelType = io.Custom("DAPE_MODEL")
TagEmbedsType = io.Custom("TAG_EMBEDS")
SeeSRModelType = io.Custom("SEESR_MODEL")


class DAPELoader(CheckedNode):
    """Files to DAPE_MODEL."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DAPELoader",
            display_name="Load DAPE (Tagger)",
            category=CATEGORY,
            description="Loads SeeSR's tagger: RAM with the DAPE LoRA, which makes it see through "
            "blur, noise and compression. Use it with Tag Image (DAPE). RAM's lists of tags come with "
            "the pack.",
            search_aliases=["ram", "recognize anything", "tagger", "seesr", "dape", "interrogate"],
            advanced=("lora_strength",),
            inputs=[
                FileInput(
                    "ram_name",
                    options=network_files(),
                    tooltip="ram_swin_large_14m.pth in models/restoration. Another kind of file is "
                    "refused with its name.",
                ),
                FileInput(
                    "dape_name",
                    options=[NO_LORA, *network_files()],
                    default=NO_LORA,
                    tooltip="DAPE.pth in models/restoration, which SeeSR was trained with. none: "
                    "plain RAM, good for clean pictures only.",
                ),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.01,
                    tooltip="1 is DAPE, 0 is plain RAM. Without effect when dape_name is none.",
                ),
            ],
            outputs=[
                DapeModelType.Output(display_name="dape_model", tooltip="For Tag Image (DAPE).")
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, ram_name: str, dape_name: str, lora_strength: float
    ) -> list[tuple[int, int]]:
        names = [name for name in (ram_name, dape_name) if name != NO_LORA]
        return [fingerprint(KIND, name) for name in names]

    @classmethod
    def execute(cls, ram_name: str, dape_name: str, lora_strength: float) -> io.NodeOutput:
        with naming():
            return io.NodeOutput(load_tagger(ram_name, dape_name, lora_strength))


class DAPETagger(CheckedNode):
    """IMAGE to tags and embeddings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="DAPETagger",
            display_name="Tag Image (DAPE)",
            category=CATEGORY,
            description="Says what is in a degraded photo, twice: as tags for the prompt and as "
            "embeddings that Apply SeeSR shows to the model. 4585 tags; no download and no text "
            "model is needed. The tags alone help any other restoration method too.",
            search_aliases=[
                "ram",
                "tagger",
                "recognize anything",
                "interrogate",
                "caption",
                "dape",
            ],
            advanced=("max_tags", "antialias"),
            inputs=[
                DapeModelType.Input("dape_model", tooltip="From Load DAPE."),
                io.Image.Input(
                    "image",
                    tooltip="The photo as it was loaded, before any enlargement. It is squeezed to "
                    "384x384 for the tagger. Several images: see tags.",
                ),
                io.Float.Input(
                    "threshold_offset",
                    default=0.0,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Added to the authors' threshold of every tag (0.45 to 1). Negative: "
                    "more tags, more of them wrong; positive: fewer. 0 is the authors'. The "
                    "embeddings stay the same.",
                ),
                io.Int.Input(
                    "max_tags",
                    default=0,
                    min=0,
                    max=4585,
                    tooltip="Keeps the most probable tags, in their usual order. 0 keeps all, as "
                    "the authors do. CLIP reads about 75 words at a time.",
                ),
                io.String.Input(
                    "exclude",
                    default="",
                    tooltip="Tags to leave out, separated by commas, such as: blur, black. Empty "
                    "leaves none out.",
                ),
                io.Boolean.Input(
                    "antialias",
                    default=False,
                    optional=True,
                    tooltip="Smoother shrinking of the photo to the tagger's 384 pixels. Off as "
                    "the authors run it; on may help with large photos.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="tags",
                    is_output_list=True,
                    tooltip="For Restoration Prompt or CLIP Text Encode. One text for each image: "
                    "with several, every node behind it runs once per text. To give each of "
                    "several images its own tags, put core's Rebatch Images with batch size 1 "
                    "before this node: the whole graph then runs image by image.",
                ),
                TagEmbedsType.Output(
                    display_name="tag_embeds",
                    tooltip="For Apply SeeSR: what the tagger saw, with a row for each image. "
                    "Independent of threshold_offset, max_tags and exclude.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        dape_model: object,
        image: Tensor,
        threshold_offset: float,
        max_tags: int,
        exclude: str,
        antialias: bool = False,
    ) -> io.NodeOutput:
        pixels, _ = from_image(image)
        texts, embeds = run_tagger(
            dape_model,
            pixels,
            lambda tags, logits: tags.text(logits, threshold_offset, max_tags, exclude),
            antialias,
        )
        return io.NodeOutput(texts, embeds)


class SeeSRLoader(CheckedNode):
    """Files to SEESR_MODEL and the MODEL it belongs to."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SeeSRLoader",
            display_name="Load SeeSR",
            category=CATEGORY,
            description="Loads SeeSR's networks as they were published, and the Stable Diffusion 2 "
            "UNet they were trained with. Connect your own base to `model` to use that one instead, "
            "such as SD-Turbo for two-step restoration. Use both outputs with Apply SeeSR.",
            search_aliases=["seesr", "load controlnet", "super resolution", "upscale", "turbo"],
            inputs=[
                FileInput(
                    "unet_name",
                    options=network_files(),
                    tooltip="From models/restoration: unet/diffusion_pytorch_model.safetensors of "
                    "SeeSR, or a converted file with both networks. Another kind of file is "
                    "refused with its name.",
                ),
                FileInput(
                    "control_net_name",
                    options=[SAME_FILE, *network_files()],
                    default=SAME_FILE,
                    tooltip="From models/restoration: controlnet/diffusion_pytorch_model."
                    "safetensors of SeeSR. The first entry is for a converted file, which holds "
                    "both.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Your own Stable Diffusion 2.x base or SD-Turbo, which is passed on. "
                    "Not connected: the UNet in the file, the safest choice. The log says whether "
                    "the two are the same.",
                ),
            ],
            outputs=[
                SeeSRModelType.Output(display_name="seesr_model", tooltip="For Apply SeeSR."),
                io.Model.Output(
                    display_name="model",
                    tooltip="For Apply SeeSR, also after LoRAs. Text encoder and VAE are those of "
                    "any Stable Diffusion 2 checkpoint.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, unet_name: str, control_net_name: str, **_: Any
    ) -> list[tuple[int, int]]:
        names = [name for name in (unet_name, control_net_name) if name != SAME_FILE]
        return [fingerprint(KIND, name) for name in names]

    @classmethod
    def execute(
        cls, unet_name: str, control_net_name: str, model: Any | None = None
    ) -> io.NodeOutput:
        with naming():
            return io.NodeOutput(*load_seesr(unet_name, control_net_name, model))


class SeeSRControlApply(CheckedNode):
    """MODEL that an image and its tags control."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SeeSRControlApply",
            display_name="Apply SeeSR",
            category=CATEGORY,
            description="Lets the photo, and what the tagger saw in it, steer every sampling step: "
            "through SeeSR's control network and its representation cross attention (RCA). Give it "
            "the very picture that is restored, at output size. Chains with ControlNets and LoRAs.",
            search_aliases=["seesr", "apply controlnet", "super resolution", "upscale", "turbo"],
            advanced=("start_percent", "end_percent"),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The MODEL of Load SeeSR, or another Stable Diffusion 2.x model.",
                ),
                SeeSRModelType.Input("seesr_model", tooltip="From Load SeeSR."),
                io.Image.Input(
                    "image",
                    tooltip="The photo from Prepare Restoration, of exactly the size that is "
                    "sampled. SeeSR copes with its degradation by itself: no degradation remover "
                    "before it.",
                ),
                TagEmbedsType.Input(
                    "tag_embeds",
                    tooltip="From Tag Image (DAPE), made of the same photo before it was enlarged. "
                    "One row for all images, or one each.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.01,
                    tooltip="1 is SeeSR. Lower lets the prompt and the base model invent more: it "
                    "scales what the control network adds, not the attention to what the tagger "
                    "saw. 0 disables both.",
                ),
                *percent_range(
                    start="Part of the sampling before which the model is the plain one. 0: "
                    "SeeSR from the first step. Later starts lose the composition of the photo.",
                    end="Part of the sampling after which the model is the plain one. 1: SeeSR "
                    "to the last step. Ending earlier saves time and frees the finest detail.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where SeeSR acts, and how strongly: white fully, black is the plain "
                    "model. Any resolution. Not connected: everywhere.",
                ),
                DapeModelType.Input(
                    "dape_model",
                    optional=True,
                    tooltip="For tiled sampling: from Load DAPE, to look at every tile by itself, "
                    "once a run, so that each knows what it shows. Not connected: all tiles share "
                    "tag_embeds, as the authors do. Without effect without tiles.",
                ),
                fidelity_input("Multiplies strength by 0.5 to 1.5."),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="To the guider or sampler. cfg 5.5 is the authors', 1 for SD-Turbo."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        seesr_model: object,
        image: Tensor,
        tag_embeds: object,
        strength: float,
        start_percent: float,
        end_percent: float,
        mask: Tensor | None = None,
        dape_model: object | None = None,
        fidelity: float = AUTHORS,
    ) -> io.NodeOutput:
        patched = apply_seesr(
            model,
            seesr_model,
            image,
            tag_embeds,
            control_strength(strength, fidelity),
            start_percent,
            end_percent,
            mask,
            dape_model,
        )
        return io.NodeOutput(patched)


NODES: list[type[io.ComfyNode]] = [DAPELoader, DAPETagger, SeeSRLoader, SeeSRControlApply]
