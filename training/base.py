"""The frozen networks of a run, from a checkpoint as ComfyUI has it: UNet, the VAE's posterior, text.

ComfyUI is imported inside functions, after accelerate has chosen the card of the process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..common.unet import UNetSizes
from ..tools.comfyui.find import HostError, find_host
from ..tools.comfyui.inprocess import import_comfyui
from .errors import TrainingError

CHUNK = 1 << 22


def open_comfyui(device: torch.device) -> None:
    """Makes ComfyUI importable in this process. TrainingError: there is none."""
    try:
        host = find_host()
    except HostError as error:
        raise TrainingError(str(error)) from error
    if host is None:
        raise TrainingError(
            "No ComfyUI was found, whose networks are trained: set COMFYUI_PATH to its folder."
        )
    import_comfyui(host.path, pytorch_attention=True)
    from comfy.cli_args import args

    args.cpu = device.type == "cpu"


def digest(file: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    found = hashlib.sha256()
    with file.open("rb") as source:
        while chunk := source.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def model_file(kind: str, name: str, key: str) -> Path:
    """A file given by its path, or by its name in a model folder of ComfyUI. key: the value's name
    in the configuration. TrainingError: it is missing."""
    import folder_paths

    if not name:
        raise TrainingError(f"{key} is empty: name the file, or its name in models/{kind}.")
    if Path(name).is_file():
        return Path(name)
    if kind == "restoration":
        from ..host.folders import register_folders

        register_folders()
    for place in folder_paths.get_folder_paths(kind):
        if (found := Path(place) / name).is_file():
            return found
    raise TrainingError(f"{key} is {name}: no such file, and none in ComfyUI's models/{kind}.")


def read_weights(file: Path) -> Any:
    """What a file of weights holds, without running code from it."""
    import comfy.utils

    from ..common.diagnosis import sentences, weights_problem
    from ..common.state_dict import CheckpointError

    if problem := weights_problem(file):
        raise CheckpointError(problem)
    with sentences(file, file.name):
        return comfy.utils.load_torch_file(str(file), safe_load=True)


@dataclass(frozen=True)
class Base:
    """What a part stands on."""

    unet: Any
    """The host's UNetModel, float32."""
    unet_config: Mapping[str, Any]
    """In the host's words."""
    moments: nn.Module | None = None
    """Of the VAE; an `Autoencoder` where restorations are to be looked at."""
    text: nn.Module | None = None
    digest: str = ""

    @property
    def sizes(self) -> UNetSizes:
        from ..host.trainable_base import sizes_of

        return sizes_of(self.unet_config)


FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
"""By the width of their text tokens."""


def check_family(sizes: UNetSizes, width: int, what: str, file: str) -> None:
    """TrainingError unless the base has text tokens of this width. what: the part, in words."""
    if sizes.context_dim != width:
        found = FAMILIES.get(sizes.context_dim, f"a model with text {sizes.context_dim} wide")
        raise TrainingError(
            f"model.base = {file} is {found}, and {what} stands on {FAMILIES[width]}: name a "
            "checkpoint of that family."
        )


def read_base(name: str, half: torch.dtype | None = None, decodes: bool = False) -> Base:
    """UNet, VAE and text encoder of a checkpoint. half: the VAE's precision, None: float32.
    decodes: whether its decoder is kept. TrainingError where it is no Stable Diffusion checkpoint."""
    import comfy.model_detection
    import comfy.sd

    from ..host.text_window import TextWindow
    from ..host.trainable_base import Autoencoder, Moments
    from ..host.trainable_unet import build_unet

    file = model_file("checkpoints", name, "model.base")
    weights = read_weights(file)
    prefix = comfy.model_detection.unet_prefix_from_state_dict(weights)
    found = comfy.model_detection.model_config_from_unet(weights, prefix)
    if found is None or "context_dim" not in found.unet_config:
        raise TrainingError(
            f"model.base = {file} is no Stable Diffusion checkpoint: name one with UNet, VAE and "
            "text encoder in it."
        )
    config = {k: v for k, v in found.unet_config.items() if k not in ("dtype", "device")}
    unet = build_unet(config)
    own = {k.removeprefix(prefix): v.float() for k, v in weights.items() if k.startswith(prefix)}
    unet.load_state_dict(own)
    _, clip, vae, *_ = comfy.sd.load_state_dict_guess_config(weights, output_model=False)
    if clip is None or vae is None:
        raise TrainingError(
            f"model.base = {file} holds no VAE or no text encoder: name a whole checkpoint."
        )
    try:
        text = TextWindow.of_clip(clip)
    except ValueError as error:
        raise TrainingError(f"model.base = {file}: {error}") from error
    moments = (Autoencoder if decodes else Moments)(vae.first_stage_model).to(half or torch.float32)
    return Base(unet, config, moments, text, digest(file))
