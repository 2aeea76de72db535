"""Reading model files: from the host's folders, safely, and again when a file was replaced."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

import comfy.model_patcher
import comfy.ops
import comfy.utils
import folder_paths
import torch
from comfy import model_management as mm
from safetensors import SafetensorError
from torch import nn

from ..common.diagnosis import weights_problem
from ..common.state_dict import CheckpointError, StateDict
from .folders import find_file

DAMAGE = (
    EOFError,
    KeyError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    struct.error,
)
"""What a broken file raises, depending on its format and on the host's version."""


def model_files(folder: str) -> list[str]:
    """Names for a dropdown, from all places the user has given for this kind of model."""
    return folder_paths.get_filename_list(folder)


def read_file(folder: str, name: str) -> Any:
    """What a file of weights holds, read on the CPU without running code from it."""
    path = find_file(folder, name)
    if problem := weights_problem(path):
        raise CheckpointError(problem if name == path.name else f"{name}: {problem}")
    try:
        return comfy.utils.load_torch_file(str(path), safe_load=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{name} cannot be read safely: it is damaged, or it holds Python objects beside its "
            "weights. Download it again from its authors, or convert it to safetensors. "
            f"({str(error).splitlines()[0]})"
        ) from error
    except DAMAGE as error:
        raise CheckpointError(
            f"{name} cannot be read: {error}. The download may be incomplete; compare its size "
            "with the published one and download it again."
        ) from error


def fingerprint(folder: str, name: str) -> tuple[int, int]:
    """Changes when the file is replaced."""
    state = find_file(folder, name).stat()
    return state.st_mtime_ns, state.st_size


def managed(network: nn.Module) -> Any:
    """A patcher around a network of ours: the host loads, offloads and counts it like its own."""
    plain = comfy.model_patcher.ModelPatcher
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", plain)  # since 0.18
    return patcher(network.eval(), mm.get_torch_device(), mm.unet_offload_device())


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """The layout that weights must have, for `check_layout`."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def load_network(weights: StateDict, build: Callable[..., tuple[nn.Module, StateDict]]) -> Any:
    """The patcher of a network in the precision the host prefers for its weights.

    build: (operations, dtype, device) -> the network and its weights under its own names.
    """
    dtype = mm.unet_dtype(
        model_params=-1,
        supported_dtypes=[torch.float16, torch.bfloat16, torch.float32],
        weight_dtype=comfy.utils.weight_dtype(weights),
    )
    # The layers take the precision of what comes in: that of the UNet of the call.
    factory = {"dtype": dtype, "device": mm.unet_offload_device()}
    network, named = build(operations=comfy.ops.manual_cast, **factory)
    network.load_state_dict(named)
    return managed(network)
