"""SeeSR's tagger in the host: its files, its memory, its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import comfy.ops
import comfy.utils
import torch
from comfy import model_management as mm
from torch import Tensor

from ..seesr.checkpoint import dape_pairs, merge_dape, ram_weights
from ..seesr.config import RAM, TAG_LISTS, TaggerConfig
from ..seesr.tagger import Tagger, tagger_input
from ..seesr.tags import TagList, read_tag_list
from .folders import KIND, find_restoration_file, restoration_folder
from .loading import managed, read_file
from .memory import with_room

NO_LORA = "none"
"""Choice of the dropdown for RAM as it is."""
BYTES_PER_IMAGE = 512 * 2**20
"""Activations of one picture, mostly the attention of the first stage."""


@dataclass(frozen=True)
class TagEmbeds:
    """What travels as TAG_EMBEDS: SeeSR's soft prompt."""

    embeds: Tensor
    """B N 512, float32, one row for every picture."""


@dataclass(frozen=True)
class DapeModel:
    """What travels as DAPE_MODEL."""

    patcher: Any
    tags: TagList
    config: TaggerConfig

    @property
    def network(self) -> Tagger:
        return self.patcher.model

    def embed(self, picture: Tensor, antialias: bool = False) -> Tensor:
        """Embeddings of a picture where it lies. picture: 1 3 H W in 0..1, any size."""
        return self.network.embed(tagger_input(picture.float(), self.config.image_size, antialias))


def load_tagger(ram_name: str, dape_name: str, lora_strength: float) -> DapeModel:
    """The tagger from files of the `restoration` folder."""
    # The lists first: they are quick, and missing more often than the networks.
    found = {name: find_restoration_file(name) for name in TAG_LISTS}
    contents = {name: Path(path).read_bytes() if path else None for name, path in found.items()}
    tags = read_tag_list(contents, restoration_folder())
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
    if lora is not None:
        weights = merge_dape(weights, dape_pairs(lora, weights, dape_name), lora_strength)
    network = Tagger(config, comfy.ops.pick_operations(dtype, dtype), dtype=dtype, device=offload)
    network.load_state_dict(weights)
    return DapeModel(managed(network), tags, config)


def check_tagger(model: object) -> DapeModel:
    """ValueError unless it came from the tagger's loader."""
    if isinstance(model, DapeModel):
        return model
    raise ValueError(
        f"`dape_model` is a {type(model).__name__}, not SeeSR's tagger. Connect Load DAPE."
    )


@torch.no_grad()
def run_tagger(
    model: object, pixels: Tensor, text: Callable[[TagList, Tensor], str], antialias: bool
) -> tuple[list[str], TagEmbeds]:
    """Tags and embeddings of every picture, one after the other.

    pixels: B 3 H W in 0..1, before any enlargement. text: (tags, logits of one picture) -> text.
    """
    model = check_tagger(model)
    device = model.patcher.load_device

    def embedded(picture: Tensor) -> Tensor:
        return model.embed(picture.to(device), antialias)

    progress = comfy.utils.ProgressBar(len(pixels))
    texts, embeds = [], []
    for picture in pixels.split(1):
        mm.throw_exception_if_processing_interrupted()
        run = partial(embedded, picture)
        embeds.append(with_room(run, model.patcher, BYTES_PER_IMAGE, "Tag Image (DAPE)"))
        texts.append(text(model.tags, model.network.logits(embeds[-1])[0].cpu()))
        progress.update(1)
    return texts, TagEmbeds(torch.cat(embeds).to(mm.intermediate_device(), torch.float32))
