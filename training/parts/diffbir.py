"""DiffBIR's second stage beside Stable Diffusion 2.1: the control network of v1, v2 and v2.1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ...common.diffusion import ForwardProcess
from ...stage1.cleaner import Cleaner
from ..base import Base, digest, model_file
from ..config import Config, path
from ..errors import TrainingError
from ..opened import Opened
from ..restoration import Way, branch_restorer
from .common import base_of, begin, metadata, pairs_of

WAY = Way("diffbir_spaced", "diffbir_spaced", "noise")
"""Also v2.1's, as its training shows it: its release runs on a sampler of ComfyUI's own."""


@dataclass(frozen=True)
class Model:
    base: str = path()
    """A checkpoint of Stable Diffusion 2.1: v1, v2 the one that predicts noise (2.1-base), v2.1
    one with zero terminal SNR."""
    version: Literal["v1", "v2", "v2.1"] = "v2"
    stage1: str = path("realesrgan_s4_swinir_100k.pth")
    """What cleans the picture first, by path or by its name in models/upscale_models."""
    start_from: tuple[str, ...] = path(())
    """A published control network to go on from."""


def cleaner_of(file: Path) -> Cleaner:
    """The stage 1 in a file. TrainingError: it is none."""
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    try:
        descriptor = ModelLoader("cpu").load_from_file(str(file))
    except UnsupportedModelError as error:
        raise TrainingError(f"model.stage1 = {file} is no network that spandrel knows.") from error
    if not isinstance(descriptor, ImageModelDescriptor):
        raise TrainingError(f"model.stage1 = {file} does not turn a picture into another one.")
    try:
        return Cleaner(descriptor)
    except ValueError as error:
        raise TrainingError(f"model.stage1 = {file} is {error}.") from error


def open_part(config: Config, base: Base | None = None, cleaner: nn.Module | None = None) -> Opened:
    """DiffBIR's control network with its data. base, cleaner: instead of the files'."""
    from ...diffbir.config import AUGMENTED, ControlConfig
    from ...diffbir.trainable import DiffBIRTrainable

    chosen, pairs = config.model, pairs_of(config)
    digests: dict[str, str] = {}
    if cleaner is None:
        file = model_file("upscale_models", chosen.stage1, "model.stage1")
        cleaner, digests = cleaner_of(file), {"stage1": digest(file)}
    base = base or base_of(config, 1024, "DiffBIR")
    newest = chosen.version == "v2.1"
    process = ForwardProcess.scaled_linear(
        "v" if newest else "eps", dtype=torch.float64, zero_snr=newest
    )
    part = DiffBIRTrainable(
        base.unet,
        process,
        ControlConfig.of(base.sizes),
        cleaner,
        AUGMENTED if newest else 0,
        moments=base.moments,
        text=base.text,
    )
    begin(config, part)
    head = metadata(config, "diffbir", version=chosen.version)
    restore = branch_restorer(config, part, WAY)
    return Opened(part, pairs, len(pairs), head, {"base": base.digest, **digests}, restore=restore)
