"""Small networks of every method under their published keys, random, and files with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from restoration.common.layout import Shapes
from restoration.common.unet_layout import diffusers_controlnet, diffusers_unet
from restoration.diffbir import keys as diffbir_keys
from restoration.diffbir.config import ControlConfig
from restoration.onestep import keys as onestep_keys
from restoration.pasd.config import PASDConfig, Variant
from restoration.pasd.keys import attention_layout
from restoration.seesr import keys as seesr_keys
from restoration.seesr.config import SeeSRConfig
from restoration.tagger import keys as tagger_keys
from restoration.tagger.config import TaggerConfig
from restoration.tagger.keys import LORA_RANK, TIED
from restoration.tagger.ram import Tagger
from restoration.tests.host import onestep_networks

Weights = dict[str, Tensor]

DIFFBIR = ControlConfig(
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(1,),
    num_head_channels=16,
    context_dim=16,
)
PASD = PASDConfig(
    channels=(32, 64),
    num_res_blocks=1,
    depths=(1, 0),
    middle_depth=1,
    context_dim=16,
    use_linear=False,
)
SEESR = SeeSRConfig(
    channels=(32, 64),
    num_res_blocks=1,
    transformers=(True, False),
    context_dim=16,
    num_head_channels=16,
)
TAGGER = TaggerConfig(
    image_size=32,
    embed_dim=8,
    depths=(1, 1),
    heads=(1, 2),
    window=4,
    labels=5,
    query_width=16,
    query_heads=2,
    query_feed_forward=32,
)


def use_tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files tell the sizes of PASD's networks; of all others there is one size."""
    monkeypatch.setattr(diffbir_keys, "SD21", DIFFBIR)
    monkeypatch.setattr(seesr_keys, "SD2", SEESR)
    monkeypatch.setattr(tagger_keys, "RAM", TAGGER)
    monkeypatch.setattr(onestep_keys, "SD2", onestep_networks.CONFIG)


def random_weights(shapes: Shapes) -> Weights:
    return {key: torch.randn(shape) * 0.1 for key, shape in shapes.items()}


def diffbir() -> Weights:
    return random_weights(diffbir_keys.layout(DIFFBIR))


def pasd_unet(variant: Variant = "pasd") -> Weights:
    """With the Stable Diffusion weights beside what PASD adds."""
    shapes = diffusers_unet(PASD) | attention_layout(variant, PASD, {})
    return random_weights(shapes)


def pasd_control(rrdb: bool = False) -> Weights:
    return random_weights(diffusers_controlnet(PASD, rrdb=rrdb, heads=True))


def seesr_unet() -> Weights:
    return random_weights(seesr_keys.unet_layout(SEESR, plain=True))


def seesr_control() -> Weights:
    return random_weights(seesr_keys.control_layout(SEESR))


def ram() -> Weights:
    """As published: the decoder under its older name, the caption branch beside it."""
    state = Tagger(TAGGER, device="meta").state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    weights = random_weights(shapes)
    named = {k.replace("tagging_head.", "vision_multi."): value for k, value in weights.items()}
    return named | {"text_decoder.bert.weight": torch.randn(3)}


def dape() -> Weights:
    """LoRA pairs for `ram`, and those of the branches that never run."""
    pairs: Weights = {}
    for key, value in Tagger(TAGGER, device="meta").state_dict().items():
        joint = key.endswith(".qkv.weight")
        if not joint and not key.endswith(("self.query.weight", "self.key.weight")):
            continue
        outputs, inputs = value.shape
        base = key.removesuffix("weight")
        pairs[f"{base}lora_A"] = torch.randn((2 if joint else 1) * LORA_RANK, inputs)
        pairs[f"{base}lora_B"] = torch.randn(outputs * 2 // 3 if joint else outputs, LORA_RANK)
    return pairs | {
        f"{TIED[0]}self.query.lora_A": torch.randn(8, 16),
        f"{TIED[0]}self.query.lora_B": torch.zeros(16, 8),
    }


def osediff() -> Weights:
    """As a converted file has them."""
    return onestep_networks.weights_of("osediff")


def pisasr() -> Weights:
    return onestep_networks.weights_of("pisasr")


def write_release(folder: Path, unet: Weights, control: Weights, ending: str = "bin") -> Path:
    """A release as published: unet/ and controlnet/."""
    for name, weights in (("unet", unet), ("controlnet", control)):
        part = folder / name
        part.mkdir(parents=True)
        (part / "config.json").write_text("{}")
        path = part / f"diffusion_pytorch_model.{ending}"
        if ending == "safetensors":
            save_file(weights, path)
        else:
            torch.save(weights, path)
    return folder
