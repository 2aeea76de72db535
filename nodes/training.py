"""Networks of this pack learn a little more on pictures of one's own, and are saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from comfy_api.latest import io
from torch import Tensor

from .. import registry
from ..common.crops import Crops
from ..common.degradation import training_pair
from ..common.jpeg import jpeg_round_trip
from ..diffbir.attach import DiffBIRControl
from ..diffbir.load import saved_diffbir
from ..diffbir.trainable import tuning as diffbir_tuning
from ..host.finetune import Beside, Settings, Tuning, finetune
from ..host.saving import Saved, save_network
from ..host.schema import CheckedNode, schema, seed_input
from ..host.training_inputs import partners_of, pictures_of, texts_for
from ..pasd.load import saved_pasd
from ..pasd.networks import PASDModel
from ..pasd.trainable import tuning as pasd_tuning
from ..stage1.cleaner import Cleaner
from ..stage1.run import check_restorer
from ..tagger.load import DapeModel, saved_dape
from ..tagger.trainable import tuning as dape_tuning
from .pasd import PASDModelType
from .seesr import DapeModelType

CATEGORY = "restoration/training"
AUTHORS = "authors"
"""Choice for the damage that a network's authors trained it with."""
CROP_MULTIPLE = 64
LossMapType = io.Custom("LOSS_MAP")
SOCKETS: list[Any] = [PASDModelType, io.ControlNet, DapeModelType]
NetworkType = io.Custom(",".join(kind.io_type for kind in SOCKETS))
LOADERS = "Load PASD, Load DiffBIR ControlNet or Load DAPE"


class Kind(NamedTuple):
    """What can be done with what travels through the socket."""

    tuning: Callable[[Any, Beside], Tuning]
    saved: Callable[[Any], Saved]


KINDS: dict[type, Kind] = {
    PASDModel: Kind(pasd_tuning, saved_pasd),
    DiffBIRControl: Kind(diffbir_tuning, saved_diffbir),
    DapeModel: Kind(dape_tuning, saved_dape),
}


def kind_of(network: object) -> Kind:
    """ValueError for what is none of `KINDS`."""
    for kind, functions in KINDS.items():
        if isinstance(network, kind):
            return functions
    raise ValueError(
        f"`network` is a {type(network).__name__}, not a network that this node knows. Connect "
        f"{LOADERS}."
    )


def cleaner_of(upscale_model: object | None, side: int) -> Cleaner:
    """DiffBIR's stage 1 for squares of `side` pixels; None: the bundled one."""
    if upscale_model is None:
        return Cleaner()
    try:
        return Cleaner(check_restorer(upscale_model, side, side))
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said[0] == "`" else f"`upscale_model` is {said}.") from error


def network_input(tooltip: str) -> io.Input:
    return io.MultiType.Input("network", types=[*SOCKETS], tooltip=tooltip)


class RestorationFineTune(CheckedNode):
    """A network learns a little more."""

    lists = ("images", "positive", "empty_text", "lq_images")

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationFineTune",
            display_name="Fine-Tune Restoration",
            category=CATEGORY,
            description="Lets PASD, DiffBIR or the tagger DAPE learn a little more from clean "
            "pictures of your own kind: film scans, manga, microscopy. They are damaged at random, and "
            "the network learns to tell from the damaged one what the clean one was. A copy learns, "
            "by the authors' loss, all weights of PASD and DiffBIR: these take a large graphics card.",
            search_aliases=["train", "training", "finetune", "learn", "dataset"],
            is_input_list=True,
            advanced=("grad_accumulation_steps", "training_dtype", "gradient_checkpointing"),
            inputs=[
                network_input(
                    "What learns more, from Load PASD. It stays as it is; a copy learns."
                ),
                io.Image.Input(
                    "images",
                    tooltip="Clean pictures, as sharp as results should become: a batch, or a list "
                    "of any sizes. A dozen is few; each is seen many times.",
                ),
                io.Int.Input(
                    "steps",
                    default=200,
                    min=2,
                    max=100000,
                    tooltip="How often the weights are moved. A few hundred adapt a network to a "
                    "kind of picture; watch the loss, and compare before and after.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=10000,
                    tooltip="Pictures that are computed at once. More is steadier and takes more "
                    "memory.",
                ),
                io.Int.Input(
                    "grad_accumulation_steps",
                    default=1,
                    min=1,
                    max=1024,
                    tooltip="Batches whose mean makes one step: as steady as a larger batch, in the "
                    "memory of a small one, and as slow. 1: each batch is a step.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=5e-5,
                    min=1e-7,
                    max=1.0,
                    step=1e-7,
                    tooltip="How far a step moves the weights. The default is of PASD's authors; those "
                    "of DiffBIR and DAPE end at 1e-5 and 2.5e-5, which keep more of what the network "
                    "knew. A loss that grows or is no number: lower it.",
                ),
                seed_input(
                    "Draws crops, damage, noise and timesteps. The same seed and inputs "
                    "train the same network."
                ),
                io.Combo.Input(
                    "training_dtype",
                    options=["bf16", "fp32"],
                    default="bf16",
                    tooltip="What is computed in. bf16 is faster and takes half of the activations' "
                    "memory; the weights that learn are float32 in either.",
                ),
                io.Boolean.Input(
                    "gradient_checkpointing",
                    default=True,
                    tooltip="Computes activations twice instead of keeping them: much less memory, a "
                    "third slower, the same numbers. DAPE has no such layers.",
                ),
                io.Combo.Input(
                    "degradation",
                    options=[AUTHORS, *registry.presets()],
                    default=AUTHORS,
                    tooltip="How the pictures are damaged: authors is what the network was trained "
                    "with, the others are those of Degrade Like The Real World. Without effect when "
                    "lq_images is connected.",
                ),
                io.Int.Input(
                    "crop_size",
                    default=512,
                    min=64,
                    max=2048,
                    step=CROP_MULTIPLE,
                    tooltip="Side of the squares that are cut out at random, in pixels: a multiple of "
                    "64. The authors' 512 is best; less takes less memory. Smaller pictures are "
                    "enlarged first.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The checkpoint that PASD or DiffBIR restores with, DiffBIR 2.1's after "
                    "DiffBIR Model Sampling. It is not changed. Its LoRAs count; other patches do not "
                    "act here. DAPE needs none.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="The VAE of that checkpoint. DAPE needs none."
                ),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="What the pictures show: one text for all, or a list with one for each. "
                    "DiffBIR 1 and 2 were trained with an empty prompt. DAPE reads none.",
                ),
                io.Conditioning.Input(
                    "empty_text",
                    optional=True,
                    tooltip="CLIP Text Encode of an empty prompt, which then takes the place of "
                    "positive half the time, as the authors train: what guidance (cfg) stands on. "
                    "Not connected: positive always.",
                ),
                io.Image.Input(
                    "lq_images",
                    optional=True,
                    tooltip="Damaged partners of images, in the same order, such as scans beside "
                    "their restored originals; smaller ones are enlarged. Not connected: images are "
                    "damaged by degradation.",
                ),
                io.UpscaleModel.Input(
                    "upscale_model",
                    optional=True,
                    tooltip="Only for DiffBIR: the cleaner that stands before it when it restores, of "
                    "the picture's own size, such as DiffBIR's SwinIR. Not connected: the bundled one.",
                ),
            ],
            outputs=[
                NetworkType.Output(
                    display_name="network",
                    tooltip="The network after it has learned, to be applied or saved like the one "
                    "that came in: connect it to an input of the same kind.",
                ),
                LossMapType.Output(
                    display_name="loss_map",
                    tooltip="The loss of every step, for Plot Loss Graph. Noise levels are drawn at "
                    "random, so single values jump; look at the trend.",
                ),
            ],
        )

    @staticmethod
    def check_together(crop_size: int) -> None:
        if crop_size % CROP_MULTIPLE:
            raise ValueError(
                f"`crop_size` is {crop_size}; it must be a multiple of {CROP_MULTIPLE}, such as "
                f"{round(crop_size / CROP_MULTIPLE) * CROP_MULTIPLE}."
            )

    @classmethod
    def execute(
        cls,
        network: object,
        images: list[Tensor],
        steps: int,
        batch_size: int,
        grad_accumulation_steps: int,
        learning_rate: float,
        seed: int,
        training_dtype: Any,
        gradient_checkpointing: bool,
        degradation: str,
        crop_size: int,
        model: Any | None = None,
        vae: Any | None = None,
        positive: list[Any] | None = None,
        empty_text: list[Any] | None = None,
        lq_images: list[Tensor] | None = None,
        upscale_model: object | None = None,
    ) -> io.NodeOutput:
        beside = Beside(model, vae, positive, lambda: cleaner_of(upscale_model, crop_size), seed)
        # The host runs nodes in inference mode, in which nothing learns.
        with torch.inference_mode(False):
            clean = pictures_of(images, "images")
            damaged = partners_of(pictures_of(lq_images, "lq_images"), clean) if lq_images else []
            tuning = kind_of(network).tuning(network, beside)
            texts, empty = [], None
            if tuning.text_width:
                needed = beside.needed("positive", tuning.title)
                texts, empty = texts_for(clean, tuning.text_width, needed, empty_text)
            preset = registry.presets()[
                tuning.degradation if degradation == AUTHORS else degradation
            ]
            crops = Crops(
                clean,
                damaged,
                texts,
                empty,
                crop_size,
                lambda pixels, draw: training_pair(pixels, preset, draw, jpeg_round_trip),
            )
            settings = Settings(
                steps,
                batch_size,
                grad_accumulation_steps,
                learning_rate,
                seed,
                training_dtype,
                gradient_checkpointing,
            )
            result, losses = finetune(tuning, crops, settings)
        return io.NodeOutput(result, {"loss": losses})


class RestorationNetworkSave(CheckedNode):
    """A network to a file of its loader's folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationNetworkSave",
            display_name="Save Restoration Network",
            category=CATEGORY,
            description="Writes a network, fine-tuned or not, as one safetensors file into the "
            "folder that its loader lists: models/restoration for PASD and DAPE, models/controlnet for "
            "DiffBIR. Nothing is ever replaced. Press R, then choose the file in the loader.",
            search_aliases=["save", "export", "train", "finetune"],
            is_output_node=True,
            inputs=[
                network_input("From Fine-Tune Restoration, or from a loader."),
                io.String.Input(
                    "filename_prefix",
                    default="finetuned/network",
                    tooltip="Folder and beginning of the name, below the loader's folder; a number is "
                    "added. %year%, %month% and %day% become today's. Load PASD takes the file as "
                    "unet_name, with the same file as control_net_name; Load DAPE as dape_name.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(cls, network: object, filename_prefix: str) -> io.NodeOutput:
        save_network(kind_of(network).saved(network), filename_prefix, cls.hidden)
        return io.NodeOutput()


NODES: list[type[io.ComfyNode]] = [RestorationFineTune, RestorationNetworkSave]
