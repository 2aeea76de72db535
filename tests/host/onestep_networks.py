"""Tiny OSEDiff and PiSA-SR files in their published form, the base they belong to, and that base with
adapters merged by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from restoration.common.unet import UNetSizes
from restoration.common.vae_layout import VAESizes
from restoration.onestep.config import OneStepConfig
from restoration.onestep.keys import UNET, VAE, Adapters, layout
from restoration.tests.golden import seeded
from restoration.tests.host.networks import unet_model

TEXT = 16
ALPHA = 8.0
"""peft's default, written out once more."""
CONFIG = OneStepConfig(
    UNetSizes(
        channels=(32, 64, 64),
        num_res_blocks=1,
        depths=(1, 1, 0),
        middle_depth=1,
        context_dim=TEXT,
        use_linear=True,
        num_heads=-1,
        num_head_channels=16,
    ),
    VAESizes(channels=(32, 32, 32, 32), num_res_blocks=1),
)
"""Three levels of Stable Diffusion 2, the base of the tiny SeeSR; the VAE of `tiny_vae`."""
RANKS = {"rank_unet": 4, "rank_vae": 2, "lora_rank_unet_pix": 4, "lora_rank_unet_sem": 2}
SMALLER = 0.3
"""Of seeded adapters: at full size they are louder than the base."""


def base_model(seed: int = 0) -> Any:
    """The UNet that the files belong to."""
    return unet_model(CONFIG.unet.unet_config(), seed=seed)


def weights_of(kind: Any, seed: int = 71) -> dict[str, Tensor]:
    """Of a converted file: the tables' tensors under the tables' names."""
    ranks = {
        (UNET, ""): RANKS["rank_unet"],
        (VAE, ""): RANKS["rank_vae"],
        (UNET, "_pix"): RANKS["lora_rank_unet_pix"],
        (UNET, "_sem"): RANKS["lora_rank_unet_sem"],
    }
    drawn = seeded.state_dict(seed, layout(kind, ranks, CONFIG))
    return {
        key: torch.from_numpy(value) * (SMALLER if ".lora_" in key else 1)
        for key, value in drawn.items()
    }


def contents_of(kind: Any, weights: dict[str, Tensor] | None = None) -> dict[str, Any]:
    """As the authors' own program saves it: tables, ranks, and lists of modules beside them."""
    contents: dict[str, Any] = {}
    for key, value in (weights or weights_of(kind)).items():
        table, _, name = key.partition(".")
        contents.setdefault(table, {})[name] = value
    if kind == "osediff":
        lists = ("unet_lora_encoder_modules", "vae_lora_encoder_modules")
        ranks = ("rank_unet", "rank_vae")
    else:
        lists = ("unet_lora_encoder_modules_pix", "unet_lora_encoder_modules_sem")
        ranks = ("lora_rank_unet_pix", "lora_rank_unet_sem")
    return {name: RANKS[name] for name in ranks} | {name: ["conv_in"] for name in lists} | contents


def onestep_model(kind: Any, seed: int = 71) -> Any:
    """What the loader gives for such a file."""
    from restoration.onestep.keys import read
    from restoration.onestep.load import OneStepModel

    return OneStepModel(read(weights_of(kind, seed), config=CONFIG), CONFIG, f"{kind}.pkl")


def merged(
    seed: int, adapters: Iterable[Adapters], replaced: dict[str, Tensor] | None = None
) -> Any:
    """The UNet itself, adapters added to its weights one by one. replaced: `weight` and `bias` of
    its first layer."""
    import comfy.utils

    unet = base_model(seed).model.diffusion_model
    names = comfy.utils.unet_to_diffusers(CONFIG.unet.unet_config())
    weights = {key: value.clone() for key, value in unet.state_dict().items()}
    for part, value in (replaced or {}).items():
        weights[f"input_blocks.0.0.{part}"] = value
    for each in adapters:
        for layer, (up, down) in each.items():
            key, rank = names[f"{layer}.weight"], down.shape[0]
            product = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)) * (ALPHA / rank)
            weights[key] = weights[key] + product.reshape(weights[key].shape)
    unet.load_state_dict(weights)
    return unet


def answer(unet: Any, z: Tensor, timestep: int, context: Tensor) -> Tensor:
    """What the network says to z."""
    times = torch.full((z.shape[0],), float(timestep))
    with torch.no_grad():
        return unet(z, times, context=context.expand(z.shape[0], -1, -1), transformer_options={})
