"""What a picture shows, in words: tags, class, objects and a caption of every picture of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import comfy.ops
import comfy.utils
import torch
from comfy import model_management as mm
from torch import Tensor

from ..host.memory import with_room
from .load import NONE, DapeModel, Describe, load_captioner, load_classifier, load_detector
from .tags import TagList

BYTES_PER_IMAGE = 512 * 2**20
"""Activations of one picture, mostly the attention of the first stage."""


@dataclass(frozen=True)
class TagEmbeds:
    """What travels as TAG_EMBEDS: SeeSR's soft prompt."""

    embeds: Tensor
    """B N 512, float32, one row for every picture."""


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


@torch.no_grad()
def high_level_information(
    pixels: Tensor, classifier: str, detector: str, captioner: str, confidence: float
) -> tuple[list[str], list[str], list[str]]:
    """Class, counted objects and caption of every picture; empty words where `none` is chosen.

    pixels: B 3 H W in 0..1. One network after the other is on the device. Progress and
    interruption per picture.
    """
    loaders: Sequence[tuple[str, Callable[[], Describe]]] = (
        (classifier, lambda: load_classifier(classifier)),
        (detector, lambda: load_detector(detector, confidence)),
        (captioner, lambda: load_captioner(captioner)),
    )
    chosen = sum(name != NONE for name, _ in loaders)
    progress = comfy.utils.ProgressBar(len(pixels) * chosen)
    pictures = pixels.cpu()

    def texts(load: Callable[[], Describe]) -> list[str]:
        describe, found = load(), []
        for picture in pictures:
            mm.throw_exception_if_processing_interrupted()
            found.append(describe(picture))
            progress.update(1)
        return found

    classes, objects, captions = (
        [""] * len(pixels) if name == NONE else texts(load) for name, load in loaders
    )
    return classes, objects, captions
