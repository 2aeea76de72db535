"""What the parts do alike: data from the configuration, precision, start from published files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...common.state_dict import StateDict
from ..base import Base, check_family, model_file, read_base, read_weights
from ..config import Config
from ..damage import damage_of
from ..data.pairs import Order, Pairs
from ..data.sources import training_items
from ..errors import TrainingError

HALF = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}


def base_of(config: Config, width: int = 0, what: str = "") -> Base:
    """The base of a run. width: of its text tokens, where only one family will do; what: the part, in
    words. TrainingError for another one."""
    base = read_base(
        config.model.base, HALF[config.run.precision], decodes=bool(config.samples.pictures)
    )
    if width:
        check_family(base.sizes, width, what, config.model.base)
    return base


def pairs_of(config: Config, needs_lq: bool = True) -> Pairs:
    """The data of a run. needs_lq: the part learns from damaged partners."""
    damage = damage_of(config.data.degradation)
    if needs_lq and damage is None and not config.data.lq:
        raise TrainingError(
            'data.degradation is "none" and data.lq is empty: name a degradation, or folders of '
            "damaged partners."
        )
    items = training_items(config.data, needs_lq and damage is None)
    return Pairs(config.data, items, Order(len(items), config.run.seed), damage)


def without_samples(config: Config, why: str) -> None:
    """TrainingError where a run asks for samples of a part that can give none."""
    if config.samples.pictures:
        raise TrainingError(
            f"samples.pictures is {config.samples.pictures!r}, but {why}: leave it out of this run."
        )


def begin(config: Config, part: Any, **start: Any) -> None:
    """The published start, or the files that `model.start_from` names; then checkpointing."""
    if files := getattr(config.model, "start_from", ()):  # all but DreamBooth
        part.load_published(_published(part, files))
    elif hasattr(part, "start"):  # stage 1 begins when it is made
        part.start(config.run.seed, **start)
    if config.run.checkpointing:
        if not hasattr(part, "checkpointed"):
            raise TrainingError(
                f"run.checkpointing is for the diffusion parts; {config.part} has no such layers."
            )
        part.checkpointed()


def _published(part: Any, files: tuple[str, ...]) -> Mapping[str, StateDict]:
    names = list(part.files.values())
    if len(files) != len(names):
        raise TrainingError(
            f"model.start_from names {len(files)} files; expected {len(names)}, in this order: "
            f"{', '.join(names)}."
        )
    paths = (model_file("restoration", file, "model.start_from") for file in files)
    return {name: read_weights(path) for name, path in zip(names, paths, strict=True)}


def metadata(config: Config, method: str, **more: str) -> dict[str, str]:
    """What every exported file says about itself. method: its folder in the pack."""
    return {"method": method, "authors": config.authors, **more}


def tagger_weights(name: str) -> StateDict:
    """The plain tagger's weights under the pack's names, float32. name: `model.ram`."""
    from ...tagger.keys import ram_weights
    from ...tagger.ram import Tagger

    layout = {k: tuple(v.shape) for k, v in Tagger(device="meta").state_dict().items()}
    contents = read_weights(model_file("restoration", name, "model.ram"))
    return {k: v.float() for k, v in ram_weights(contents, layout, name).items()}
