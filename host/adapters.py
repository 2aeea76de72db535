"""Low-rank adapters as weight patches of the host's, on a MODEL's UNet or on a VAE, checked before the
host sees them: it would log a wrong one and go on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import comfy.diffusers_convert
import comfy.utils
import torch
from comfy.weight_adapter import LoRAAdapter
from torch import Tensor, nn

from ..common.text import few
from .extra_blocks import Block

UNET = "diffusion_model."
Pair = tuple[Tensor, Tensor]
"""(up, down): [outputs, rank, ...] and [rank, inputs, ...]."""
Pairs = Mapping[str, Pair]


def unet_names(model: Any) -> dict[str, str]:
    """Weight of a UNet in diffusers' form -> its name in the network of this MODEL."""
    return comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)


def vae_name(layer: str) -> str:
    """The host's name of a layer of a VAE in diffusers' form."""
    # The host's own table, which turns one form's attention into the other's shape on the way.
    weight = torch.zeros(1, 1)
    (name,) = comfy.diffusers_convert.convert_vae_state_dict({f"{layer}.weight": weight})
    return name.removesuffix(".weight")


def check_pairs(patcher: Any, pairs: Pairs, what: str, wanted: str) -> None:
    """ValueError unless every weight is there and fits. pairs: by names of the patcher's weights.
    what: whose weights these are, such as "`vae`". wanted: what to connect."""
    shapes = {key: tuple(value.shape) for key, value in patcher.model_state_dict().items()}
    missing = [key for key in pairs if key not in shapes]
    if missing:
        raise ValueError(
            f"{what} lacks {len(missing)} of the {len(pairs)} layers that are to be adapted "
            f"({few(missing)}). {wanted}"
        )
    for key, (up, down) in pairs.items():
        found, rank = shapes[key], down.shape[0]
        inputs = torch.Size(found[1:]).numel()
        if up.flatten(1).shape != (found[0], rank) or down.flatten(1).shape != (rank, inputs):
            raise ValueError(
                f"{what} has another shape than the adapter of its layer {key}: {found}, and the "
                f"adapter is made for {(up.shape[0], *down.shape[1:])}. {wanted}"
            )


def add_pairs(patcher: Any, pairs: Pairs, alpha: float, strength: float) -> None:
    """Patches a clone: strength * alpha / rank * up @ down is added to every weight."""
    adapters = {
        key: LoRAAdapter(set(), (up, down, alpha, None, None, None))
        for key, (up, down) in pairs.items()
    }
    patcher.add_patches(adapters, strength)


def replace_weights(patcher: Any, weights: Mapping[str, Tensor], strength: float) -> None:
    """Patches a clone: its own weights become these at strength 1, and whatever other patches add
    stays on top. weights: by names of the patcher's, in their shapes."""
    differences = {}
    for key, wanted in weights.items():
        (own, _), *_patches = patcher.get_key_patches(key)[key]
        difference = wanted.float() - own.to("cpu", torch.float32)
        differences[key] = ("diff", (difference,))
    patcher.add_patches(differences, strength)


def patched_vae(vae: Any) -> Any:
    """A VAE whose patches are its own: the object shares the network, as clones of a MODEL do."""
    clone = copy.copy(vae)
    clone.patcher = vae.patcher.clone()
    return clone


class AdapterLayer(nn.Module):
    """An adapter as two layers that run beside the adapted one, for when it shall not be merged."""

    def __init__(self, layer: nn.Module, pair: Pair, **layers: Any) -> None:
        """layer: of the host, whose stride and padding the adapter shares. layers: `operations`,
        `dtype` and `device`."""
        super().__init__()
        operations = layers.pop("operations")
        (up, down), rank = pair, pair[1].shape[0]
        if isinstance(layer, nn.Conv2d):
            steps = {"stride": layer.stride, "padding": layer.padding}
            kernel = down.shape[-2:]
            self.down = operations.Conv2d(
                down.shape[1], rank, kernel, bias=False, **steps, **layers
            )
            self.up = operations.Conv2d(rank, up.shape[0], 1, bias=False, **layers)
        else:
            self.down = operations.Linear(down.shape[1], rank, bias=False, **layers)
            self.up = operations.Linear(rank, up.shape[0], bias=False, **layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


def gated(layer: Block, gate: Tensor | None) -> Block:
    """What a layer adds, times a number for each row; None: one for all."""
    if gate is None:
        return layer

    def run(x: Tensor) -> Tensor:
        added = layer(x)
        return added * gate.to(added).reshape(-1, *(1 for _ in added.shape[1:]))

    return run
