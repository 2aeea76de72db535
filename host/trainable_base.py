"""What a part in training stands on, from ComfyUI's own objects: the sizes of a UNet, a copy of a MODEL's
weights, its table of noise levels, and the posterior of a VAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.lora
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_sampling import V_PREDICTION
from torch import Tensor, nn

from ..common.diffusion import ForwardProcess
from ..common.unet import UNetSizes
from .sampling import training_table
from .trainable import frozen
from .trainable_unet import SCALE_FACTOR, build_unet

PREFIX = "diffusion_model."
LATENT_CHANNELS = 4


def sizes_of(unet_config: Mapping[str, Any]) -> UNetSizes:
    """The host's words for a UNet in the pack's."""
    width, levels = unet_config["model_channels"], len(unet_config["channel_mult"])
    blocks = unet_config["num_res_blocks"]
    per_level = blocks if isinstance(blocks, int) else blocks[0]
    depths = list(unet_config["transformer_depth"])
    return UNetSizes(
        channels=tuple(width * factor for factor in unet_config["channel_mult"]),
        num_res_blocks=per_level,
        depths=tuple(depths[level * per_level] for level in range(levels)),
        middle_depth=unet_config["transformer_depth_middle"],
        context_dim=unet_config["context_dim"],
        use_linear=bool(unet_config.get("use_linear_in_transformer")),
        num_heads=unet_config.get("num_heads", -1),
        num_head_channels=unet_config.get("num_head_channels", -1),
        adm_channels=unet_config.get("adm_in_channels"),
        in_channels=unet_config["in_channels"],
    )


def check_sizes(model: Any, wanted: UNetSizes, title: str) -> None:
    """ValueError unless a MODEL's UNet is of the sizes that a network was trained beside. title: of
    that network."""
    try:
        found = sizes_of(model.model.model_config.unet_config)
    except (KeyError, IndexError, TypeError):  # no UNet
        found = None
    kinds = [
        None if each is None else (each.context_dim, each.channels) for each in (found, wanted)
    ]
    if kinds[0] != kinds[1]:
        described = "" if found is None else f" ({_described(found)})"
        raise ValueError(
            f"`model` is a {type(model.model).__name__}{described}, and this {title} was trained "
            f"beside another base ({_described(wanted)}): connect the checkpoint that it restores "
            "with."
        )


def _described(sizes: UNetSizes) -> str:
    channels = ", ".join(map(str, sizes.channels))
    return f"text features {sizes.context_dim} wide, channels {channels}"


class Moments(nn.Module):
    """The VAE's posterior: the host's own call gives its mode alone."""

    def __init__(self, vae: Any, device: torch.device | None = None) -> None:
        """vae: the host's network. device: where it runs; None: where the pixels are."""
        super().__init__()
        self.encoder, self.quant_conv, self.device = vae.encoder, vae.quant_conv, device

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """B 3 H W in -1..1 -> mean and logvar, B 4 h w, float32, not scaled."""
        place = self.device or pixels.device
        found = self.quant_conv(self.encoder(pixels.to(place, self.quant_conv.weight.dtype)))
        mean, logvar = found.to(pixels.device, torch.float32).chunk(2, 1)
        return mean, logvar


class Autoencoder(Moments):
    """The posterior, and the way back from it."""

    def __init__(self, vae: Any, device: torch.device | None = None) -> None:
        """See `Moments`."""
        super().__init__(vae, device)
        self.decoder, self.post_quant_conv = vae.decoder, vae.post_quant_conv

    def encoded(self, pixels: Tensor) -> Tensor:
        """B 3 H W in 0..1 -> B 4 h w in the model's scale: the posterior's mode."""
        return SCALE_FACTOR * self(pixels * 2 - 1)[0]

    def decoded(self, latent: Tensor) -> Tensor:
        """B 4 h w in the model's scale -> B 3 H W, about 0..1, float32."""
        weight = self.post_quant_conv.weight
        place = self.device or latent.device
        pixels = self.decoder(self.post_quant_conv((latent / SCALE_FACTOR).to(place, weight.dtype)))
        return (pixels.to(latent.device, torch.float32) + 1) / 2


def unet_of(model: Any) -> UNetModel:
    """A copy of a MODEL's UNet for training: float32, on the CPU, frozen, with what LoRAs and other
    patches of weights make of it. The MODEL stays as it is, wherever its weights lie."""
    config = model.model.model_config.unet_config
    unet = build_unet({k: v for k, v in config.items() if k not in ("dtype", "device")}, "cpu")
    weights = {}
    for key, ((own, convert), *patches) in model.get_key_patches(PREFIX).items():
        weight = convert(own.to("cpu", torch.float32, copy=True), inplace=True)
        weights[key.removeprefix(PREFIX)] = comfy.lora.calculate_weight(patches, weight, key)
    unet.load_state_dict(weights)
    return frozen(unet)


def process_of(model: Any) -> ForwardProcess:
    """How a MODEL's timesteps mix picture and noise, and what it predicts. Raises ValueError for a
    schedule that is not Stable Diffusion's."""
    sampling = model.get_model_object("model_sampling")
    sigmas = training_table(sampling).double()
    signal = (1 + sigmas**2).rsqrt()
    prediction = "v" if isinstance(sampling, V_PREDICTION) else "eps"
    return ForwardProcess(signal.float(), (sigmas * signal).float(), prediction)


def moments_of(vae: Any) -> Moments:
    """The posterior of a VAE, which keeps its networks. Raises ValueError for one that has none of
    four channels."""
    network = vae.first_stage_model
    if not hasattr(network, "quant_conv") or vae.latent_channels != LATENT_CHANNELS:
        raise ValueError(
            f"`vae` is a {type(network).__name__} with {vae.latent_channels} latent channels; "
            "training draws from the posterior of Stable Diffusion 1's and 2's VAE. Connect the VAE "
            "of the checkpoint."
        )
    return Moments(network, vae.device)  # which may be the CPU's, apart from all others
