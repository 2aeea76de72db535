"""Reading model files: from the host's folders, safely, and again when a file was replaced."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import torch
from comfy import model_management as mm
from torch import nn

from ..common.diagnosis import sentences, weights_problem
from ..common.state_dict import CheckpointError, StateDict
from .folders import KIND, SAME_FILE, find_file


def model_files(folder: str) -> list[str]:
    """Names for a dropdown, from all places the user has given for this kind of model."""
    return folder_paths.get_filename_list(folder)


def read_file(folder: str, name: str) -> Any:
    """What a file of weights holds, read on the CPU without running code from it."""
    path = find_file(folder, name)
    if problem := weights_problem(path):
        raise CheckpointError(problem if name == path.name else f"{name}: {problem}")
    with sentences(path, name):
        return comfy.utils.load_torch_file(str(path), safe_load=True)


def fingerprint(folder: str, name: str) -> tuple[int, int]:
    """Changes when the file is replaced."""
    state = find_file(folder, name).stat()
    return state.st_mtime_ns, state.st_size


def managed(network: nn.Module) -> Any:
    """A patcher around a network of ours: the host loads, offloads and counts it like its own."""
    plain = comfy.model_patcher.ModelPatcher
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", plain)  # since 0.18
    return patcher(network.eval(), mm.get_torch_device(), mm.unet_offload_device())


def preferred_dtype(weights: StateDict) -> torch.dtype:
    """The precision the host prefers for a network with these weights."""
    return mm.unet_dtype(
        model_params=-1,
        supported_dtypes=[torch.float16, torch.bfloat16, torch.float32],
        weight_dtype=comfy.utils.weight_dtype(weights),
    )


def layers_for(weights: StateDict) -> dict[str, Any]:
    """`operations`, `dtype` and `device` to build a network with, for the weights it will get. Its
    layers take the precision of what comes in: that of the UNet of the call."""
    return {
        "operations": comfy.ops.manual_cast,
        "dtype": preferred_dtype(weights),
        "device": mm.unet_offload_device(),
    }


def placed(network: nn.Module, weights: StateDict) -> Any:
    """The patcher of a network with these weights in it, under its own names, none missing."""
    network.load_state_dict(weights)
    return managed(network)


def read_pair(unet_name: str, control_net_name: str) -> tuple[tuple[Any, str], tuple[Any, str]]:
    """(contents, name) of the two files of a release in the folder `restoration`. With `SAME_FILE`,
    or the same name twice, one file is read and stands for both."""
    unet = read_file(KIND, unet_name), unet_name
    if control_net_name in (SAME_FILE, unet_name):
        return unet, unet
    return unet, (read_file(KIND, control_net_name), control_net_name)
