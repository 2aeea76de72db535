"""Gradient checkpointing (Chen et al. 2016) for the host's networks: the inside of their layers is
computed again in the backward pass instead of kept.

The host's own switch asks for the state of CUDA's autocast and knows no hooks; this one is exact
with and without both.
"""

from __future__ import annotations

from typing import Any

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_layers(*networks: nn.Module) -> None:
    """From now on every residual block and every transformer of the networks is checkpointed.

    Forward hooks on these layers lie outside, and are not run again; patches inside them are, and
    see `transformer_options` as they were (the host changes that dictionary from layer to layer).
    """
    for network in networks:
        for layer in network.modules():
            if isinstance(layer, (ResBlock, SpatialTransformer)):
                _checkpoint(layer)


def _checkpoint(layer: Any) -> None:
    forward = layer.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        args = tuple(_kept(value) for value in args)
        kwargs = {key: _kept(value) for key, value in kwargs.items()}
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    layer.forward = run


def _kept(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value
