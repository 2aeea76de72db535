"""Whole transformers after layers of a UNet (PASD's pixel transformers, SeeSR's RCA), and small layers
beside its own.

No patch point of the host reaches all their places. Forward hooks do, exactly: the host calls
every layer as a module. They are set for one call and leave names, clones and LoRAs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import Upsample
from torch import Tensor, nn

Block = Callable[[Tensor], Tensor]
"""B C h w, the layer's output -> the same shape, what takes its place."""

NOT_INSIDE = ("patches", "patches_replace", "block", "block_index", "transformer_index")
"""What `transformer_options` says of the UNet's own blocks. Inside an extra block other nodes'
attention patches, chosen by block, would fire as well."""


def layer_at(root: nn.Module, site: str) -> nn.Module:
    """The layer a site names. `output_blocks.5` means the block's last layer before its
    upsampler, `middle_block.1` that very layer."""
    layer = root.get_submodule(site)
    if isinstance(layer, nn.Sequential):
        return [inner for inner in layer if not isinstance(inner, Upsample)][-1]
    return layer


@contextmanager
def after(root: nn.Module, blocks: Mapping[str, Block]) -> Iterator[None]:
    """Within it, the output of every named layer of `root` goes through its block."""

    def hook(block: Block) -> Callable[..., Tensor]:
        return lambda _module, _arguments, output: block(output)

    with _hooked(root, {site: hook(block) for site, block in blocks.items()}):
        yield


@contextmanager
def beside(root: nn.Module, layers: Mapping[str, Block]) -> Iterator[None]:
    """Within it, the output of every named layer of `root` has that of its neighbor added, which
    gets the same input."""

    def hook(layer: Block) -> Callable[..., Tensor]:
        return lambda _module, arguments, output: output + layer(arguments[0])

    with _hooked(root, {site: hook(layer) for site, layer in layers.items()}):
        yield


@contextmanager
def _hooked(root: nn.Module, hooks: Mapping[str, Callable[..., Tensor]]) -> Iterator[None]:
    handles = []
    try:
        for site, hook in hooks.items():
            handles.append(layer_at(root, site).register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def inner_options(transformer_options: Mapping[str, Any]) -> dict[str, Any]:
    """`transformer_options` for a network that is not the patched UNet."""
    return {k: v for k, v in transformer_options.items() if k not in NOT_INSIDE}


def tokens(features: Tensor) -> Tensor:
    """B C h w -> B (h w) C, row by row."""
    return features.flatten(2).transpose(1, 2)
