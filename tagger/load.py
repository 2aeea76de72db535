"""From local files to what describes a picture: the tagger RAM with DAPE, a classifier, a detector, a
captioner."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.ops
import comfy.utils
import folder_paths
import torch
from comfy import model_management as mm
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..common.prompts import caption_text, class_text, objects_text
from ..common.state_dict import CheckpointError, StateDict, check_layout, unwrapped
from ..host.folders import (
    KIND,
    find_below,
    find_restoration_file,
    register_folders,
    restoration_folder,
)
from ..host.loading import managed, model_files, read_file
from ..host.saving import Saved
from .config import CAPTIONER_URL, CLASSIFIER_URL, DETECTOR_URL, RAM, TaggerConfig
from .keys import dape_file, dape_pairs, merge_dape, ram_weights
from .ram import Tagger, tagger_input
from .tags import TagList, read_tag_list

NO_LORA = "none"
"""Choice of the dropdown for RAM as it is."""


@dataclass(frozen=True)
class DapeModel:
    """What travels as DAPE_MODEL."""

    patcher: Any
    tags: TagList
    config: TaggerConfig
    lora: StateDict | None = None
    """What of DAPE is merged into the network, its strength in B; None: the network is plain RAM."""

    @property
    def network(self) -> Tagger:
        return self.patcher.model

    def embed(self, picture: Tensor, antialias: bool = False) -> Tensor:
        """Embeddings of a picture where it lies. picture: 1 3 H W in 0..1, any size."""
        return self.network.embed(tagger_input(picture.float(), self.config.image_size, antialias))


def load_tagger(ram_name: str, dape_name: str, lora_strength: float) -> DapeModel:
    """The tagger from files of the `restoration` folder."""
    # The lists first: they are quick.
    tags = read_tag_list(find_restoration_file)
    lora = None if dape_name == NO_LORA else read_file(KIND, dape_name)
    return build_tagger(
        read_file(KIND, ram_name), tags, lora, lora_strength, RAM, ram_name, dape_name
    )


def build_tagger(
    ram: object,
    tags: TagList,
    lora: object | None = None,
    lora_strength: float = 1.0,
    config: TaggerConfig = RAM,
    ram_name: str = "The file",
    dape_name: str = "The file",
) -> DapeModel:
    """The tagger from what the files hold, in float32 as the authors' command line runs it."""
    dtype, offload = torch.float32, mm.unet_offload_device()
    layout = Tagger(config, device="meta").state_dict()
    weights = ram_weights(ram, {key: tuple(v.shape) for key, v in layout.items()}, ram_name)
    merged = None
    if lora is not None:
        pairs = dape_pairs(lora, weights, dape_name)
        weights = merge_dape(weights, pairs, lora_strength)
        merged = dape_file(pairs, lora_strength)
    network = Tagger(config, comfy.ops.pick_operations(dtype, dtype), dtype=dtype, device=offload)
    network.load_state_dict(weights)
    return DapeModel(managed(network), tags, config, merged)


def saved_dape(model: DapeModel) -> Saved:
    """The LoRA as its file. Raises ValueError where there is none."""
    if model.lora is None:
        raise ValueError(
            "`network` is plain RAM, which has learned nothing: there is no DAPE to save. Fine-tune "
            "it first, or choose a DAPE in Load DAPE."
        )
    said = {"restoration.method": "seesr", "restoration.version": "DAPE"}
    return Saved(KIND, model.lora, said, "Load DAPE: as dape_name")


NONE = "none"
BEAMS, CAPTION_TOKENS = 3, 30
"""How the library behind PASD's BLIP searches for a caption."""
LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""Nothing is fetched while a graph runs, and no code out of a model folder is run."""
Describe = Callable[[Tensor], str]
"""3 H W in 0..1, on the CPU -> words."""


def classifier_files() -> list[str]:
    """Names for a dropdown: files of `models/restoration`, where a classifier may lie."""
    register_folders()
    return [NONE, *model_files(KIND)]


def _places() -> list[str]:
    register_folders()
    return folder_paths.get_folder_paths(KIND)


def model_folders() -> list[str]:
    """Names for a dropdown: folders below `models/restoration` with a config.json."""
    found = {
        Path(folder).relative_to(root).as_posix()
        for root in _places()
        for folder, _, files in os.walk(root, followlinks=True)
        if "config.json" in files and folder != root
    }
    return [NONE, *sorted(found)]


def folder_fingerprint(name: str) -> list[tuple[str, int, int]]:
    """Changes when a file of the folder is replaced."""
    files = sorted(path for path in _folder(name, "a model", "").iterdir() if path.is_file())
    return [(path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files]


def _folder(name: str, expected: str, url: str) -> Path:
    register_folders()
    if folder := find_below(KIND, name, holding="config.json"):
        return folder
    raise CheckpointError(
        f"There is no folder {name} with {expected} in {restoration_folder()}. Put its config.json "
        f"and the files beside it there{f', for example those of {url}' if url else ''}."
    )


def _on_device(network: torch.nn.Module) -> ModelPatcher:
    """Loads a network whole; it leaves the device when the patcher is forgotten.

    Wrapped in a container, because the host sets attributes on its models that transformers'
    models do not let it set.
    """
    patcher = ModelPatcher(
        torch.nn.Sequential(network.eval().float()),
        load_device=mm.get_torch_device(),
        offload_device=torch.device("cpu"),
    )
    mm.load_models_gpu([patcher], force_full_load=True)
    return patcher


def load_classifier(name: str) -> Describe:
    """ResNet-50 from a file with the weights that torchvision publishes."""
    from torchvision.models import ResNet50_Weights, resnet50

    register_folders()
    if find_below(KIND, name) is None:
        raise CheckpointError(
            f"There is no file {name} in {restoration_folder()}. The classifier is torchvision's "
            f"ResNet-50: get {CLASSIFIER_URL} and put it there, or choose {NONE}."
        )
    published = ResNet50_Weights.DEFAULT
    weights = unwrapped(read_file(KIND, name))
    with torch.device("meta"):
        network = resnet50()
    # Counters that only training reads; old files lack them.
    needed = {k: v for k, v in network.state_dict().items() if not k.endswith("batches_tracked")}
    check_layout(
        {k: v for k, v in weights.items() if not k.endswith("batches_tracked")},
        {key: tuple(value.shape) for key, value in needed.items()},
        name,
        "torchvision's ResNet-50 classifier",
        f"Get {CLASSIFIER_URL} .",
    )
    network = network.to_empty(device="cpu")
    network.load_state_dict(weights, strict=False)
    patcher = _on_device(network)
    prepare, names = published.transforms(), published.meta["categories"]

    def describe(pixels: Tensor) -> str:
        (network,) = patcher.model
        logits = network(prepare(pixels)[None].to(patcher.load_device))
        return class_text(logits[0].softmax(-1).tolist(), names)

    return describe


def load_detector(name: str, confidence: float) -> Describe:
    """Any object detector of transformers; counts what it finds with at least `confidence`."""
    from transformers import AutoModelForObjectDetection

    network, processor, _ = _load_folder(
        name, AutoModelForObjectDetection, "an object detector", DETECTOR_URL
    )
    patcher = _on_device(network)
    names = network.config.id2label

    def describe(pixels: Tensor) -> str:
        inputs = processor(images=_picture(pixels), return_tensors="pt").to(patcher.load_device)
        (network,) = patcher.model
        (found,) = processor.post_process_object_detection(
            network(**inputs), threshold=confidence, target_sizes=[tuple(pixels.shape[-2:])]
        )
        # The surest comes first, as PASD's detector lists them.
        order = found["scores"].argsort(descending=True, stable=True)
        return objects_text([names[label] for label in found["labels"][order].tolist()])

    return describe


def load_captioner(name: str) -> Describe:
    """Any captioner of transformers that writes from a picture alone, such as BLIP."""
    import transformers

    # The older name, which version 5 no longer has, knows more captioners before it.
    auto = getattr(transformers, "AutoModelForVision2Seq", None)
    auto = auto or transformers.AutoModelForImageTextToText
    network, processor, tokenizer = _load_folder(name, auto, "a captioner", CAPTIONER_URL, True)
    patcher = _on_device(network)

    def describe(pixels: Tensor) -> str:
        inputs = processor(images=_picture(pixels), return_tensors="pt")
        (network,) = patcher.model
        tokens = network.generate(
            pixel_values=inputs["pixel_values"].to(patcher.load_device),
            num_beams=BEAMS,
            max_new_tokens=CAPTION_TOKENS,
            do_sample=False,
        )
        return caption_text(tokenizer.decode(tokens[0], skip_special_tokens=True))

    return describe


def _picture(pixels: Tensor) -> Any:
    """As the image processors of transformers take it without guessing: 8 bits, channels last."""
    from PIL import Image

    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy())


def _load_folder(
    name: str, auto: Any, expected: str, url: str, with_tokenizer: bool = False
) -> tuple[Any, Any, Any]:
    """Network, image processor and (or None) tokenizer out of a folder of transformers."""
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

    folder = _folder(name, expected, url)
    try:
        config = AutoConfig.from_pretrained(folder, **LOCAL)
        if getattr(config, "use_pretrained_backbone", False):
            # Its weights are in the file; the library would download them once more.
            config.use_pretrained_backbone = False
        network, info = auto.from_pretrained(
            folder, config=config, use_safetensors=True, output_loading_info=True, **LOCAL
        )
        processor = AutoImageProcessor.from_pretrained(folder, **LOCAL)
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL) if with_tokenizer else None
    except Exception as error:  # which one depends on what is damaged, and on the library
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise CheckpointError(
            f"The folder {name} cannot be used as {expected}: {reason.strip()} It needs "
            "config.json, model.safetensors, preprocessor_config.json and, for a captioner, the "
            f"tokenizer's files, as in {url} ."
        ) from error
    if info["missing_keys"]:
        raise CheckpointError(
            f"The folder {name} is not {expected}: {len(info['missing_keys'])} weights are missing "
            f"({sorted(info['missing_keys'])[0]}, ...). Get the files of {url} ."
        )
    return network, processor, tokenizer
