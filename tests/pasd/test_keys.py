"""Which files the PASD loader takes, what it reads from them, and what it says about all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from restoration.common.state_dict import CheckpointError
from restoration.pasd.config import PASDConfig
from restoration.pasd.keys import (
    CONTROL_PREFIX,
    ENCODER_PREFIX,
    UNET_PREFIX,
    added_part,
    config_from,
    control_part,
    depth_of,
    is_added,
    layer_prefix,
    pixel_layers,
    variant_of,
)
from restoration.registry import naming

GOLDEN = Path(__file__).parent.parent / "golden"

SD15 = PASDConfig((320, 640, 1280, 1280), 2, (1, 1, 1, 0), 1, 768, False)
SDXL = PASDConfig((320, 640, 1280), 2, (0, 2, 10), 10, 2048, True, -1, 64, 2816)


def groups(name: str) -> dict[str, dict[str, Tensor]]:
    """{group: every key of a published file}, on the meta device."""
    data = json.loads((GOLDEN / f"{name}.json").read_text())
    return {
        group: {key: torch.empty(shape, device="meta") for key, (shape, _) in entries.items()}
        for group, entries in data["groups"].items()
    }


def manifest(name: str) -> dict[str, Tensor]:
    return {key: value for group in groups(name).values() for key, value in group.items()}


UNETS = {
    "unet_pasd": ("pasd", SD15),
    "unet_pasd_light": ("pasd_light", SD15),
    "unet_pasd_sdxl": ("pasd", SDXL),
}
CONTROLS = {"controlnet": SD15, "controlnet_rrdb": SD15, "controlnet_sdxl": SDXL}


@pytest.mark.parametrize("name", UNETS)
def test_only_the_added_keys_of_a_unet_are_taken(name) -> None:
    parts = groups(f"pasd/manifest_{name}")
    variant, added = added_part(manifest(f"pasd/manifest_{name}"))
    assert variant == UNETS[name][0]
    assert added.keys() == parts["added"].keys()
    assert not any(is_added(key) for key in parts["base"])


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_network_falls_into_its_parts(name) -> None:
    parts = groups(f"pasd/manifest_{name}")
    control, encoder = control_part(manifest(f"pasd/manifest_{name}"))
    assert control.keys() == parts["base"].keys()
    assert {ENCODER_PREFIX + key for key in encoder} == parts["added"].keys()
    assert config_from(control) == CONTROLS[name]


def test_the_control_network_tells_the_sizes_of_its_unet() -> None:
    """A SeeSR-like other width or depth is read, never assumed."""
    control, _ = control_part(manifest("pasd/manifest_controlnet"))
    key = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    control[key] = torch.empty(1280, 1024, device="meta")
    assert config_from(control).context_dim == 1024


@pytest.mark.parametrize(("name", "known"), UNETS.items(), ids=UNETS)
def test_every_added_key_has_one_place_in_the_decoder(name, known) -> None:
    """Each lies below exactly one layer's prefix, and the layer's widths are the file's."""
    variant, config = known
    added = groups(f"pasd/manifest_{name}")["added"]
    layers = pixel_layers(variant, config)
    prefixes = [layer_prefix(variant, layer) for layer in layers]
    for key in added:
        assert sum(key.startswith(prefix) for prefix in prefixes) == 1, key
    attention = "attn2" if variant == "pasd" else "attn2_plus"
    for layer, prefix in zip(layers, prefixes, strict=True):
        to_k = added[f"{prefix}transformer_blocks.0.{attention}.to_k.weight"]
        assert tuple(to_k.shape) == (layer.channels, layer.context_channels)


def test_decoder_layers_meet_their_residuals() -> None:
    """Section 2.5 of the specification: block, context width, whether light has it."""
    contexts = [1280] * 5 + [640] * 3 + [320] * 4
    decoder = SD15.decoder
    assert [layer.context_channels for layer in decoder] == contexts
    assert [layer.channels for layer in decoder] == [1280] * 6 + [640] * 3 + [320] * 3
    assert [layer.name for layer in decoder[:4]] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert [layer.index for layer in pixel_layers("pasd_light", SD15)] == list(range(3, 12))
    assert len(pixel_layers("pasd", SD15)) == 12
    expected = [1280, 1280, 640, 640, 640, 320, 320, 320, 320]
    assert [layer.context_channels for layer in SDXL.decoder] == expected


def test_heads_are_eight_or_of_one_width() -> None:
    assert [SD15.heads(channels) for channels in SD15.channels] == [8, 8, 8, 8]
    assert [SDXL.heads(channels) for channels in SDXL.channels] == [5, 10, 20]
    assert (SD15.family, SDXL.family) == ("Stable Diffusion 1.x", "SDXL")


def test_depths_come_from_the_file() -> None:
    """PASD-SDXL: ten, two, and one where the UNet itself has no text transformer."""
    added = groups("pasd/manifest_unet_pasd_sdxl")["added"]
    depths = [depth_of(added, layer_prefix("pasd", layer)) for layer in SDXL.decoder]
    assert depths == [10] * 3 + [2] * 3 + [1] * 3
    assert depth_of({}, "up_blocks.0.pixel_attentions.0.") == 1
    shallow = {k: v for k, v in added.items() if ".transformer_blocks.9." not in k}
    assert depth_of(shallow, layer_prefix("pasd", SDXL.decoder[0])) == 9


def test_a_converted_file_holds_both() -> None:
    added = groups("pasd/manifest_unet_pasd_light")["added"]
    control = manifest("pasd/manifest_controlnet")
    both = {f"{UNET_PREFIX}{key}": value for key, value in added.items()}
    both |= {f"{CONTROL_PREFIX}{key}": value for key, value in control.items()}
    variant, found = added_part(both)
    assert (variant, found) == ("pasd_light", added)
    assert control_part(both) == control_part(control)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: {"state_dict": sd, "global_step": 100000},
        lambda sd: {f"module.{key}": value for key, value in sd.items()},
    ],
    ids=["state_dict", "module"],
)
def test_wrappings_of_training_scripts_come_off(wrap) -> None:
    unet, control = manifest("pasd/manifest_unet_pasd"), manifest("pasd/manifest_controlnet")
    assert added_part(wrap(unet)) == added_part(unet)
    assert control_part(wrap(control)) == control_part(control)


def test_variant_is_told_by_keys() -> None:
    assert variant_of(["up_blocks.0.pixel_attentions.0.norm.weight"]) == "pasd"
    key = "up_blocks.1.attentions.0.transformer_blocks.0.attn2_plus.to_q.weight"
    assert variant_of([key]) == "pasd_light"
    assert variant_of(["up_blocks.1.attentions.0.norm.weight"]) is None


PERSONALIZED = groups("pasd/manifest_unet_pasd")["base"]
LDM = {f"model.{k}": torch.empty(1) for k in ("diffusion_model.input_blocks.0.0.weight", "other")}


@pytest.mark.parametrize(
    ("contents", "words", "advice"),
    [
        (PERSONALIZED, "a Stable Diffusion UNet in diffusers form", "load it with Load Checkpoint"),
        (LDM, "a Stable Diffusion checkpoint", "load it with Load Checkpoint"),
        (manifest("pasd/manifest_controlnet"), "PASD's control network", "control_net_name"),
        (manifest("seesr/manifest_seesr_unet"), "SeeSR's UNet", "yangtao9009/PASD"),
        (manifest("diffbir/manifest_v2"), "a DiffBIR control network", "yangtao9009/PASD"),
        ({"a.lora_down.weight": torch.zeros(1)}, "a LoRA", "models/restoration"),
        ({}, "a file without any weights", "models/restoration"),
    ],
    ids=["personalized", "checkpoint", "swapped", "seesr", "diffbir", "lora", "empty"],
)
def test_a_unet_without_pixel_attention_gets_a_sentence(contents, words, advice) -> None:
    with pytest.raises(CheckpointError) as error, naming():
        added_part(contents, "toonyou.safetensors")
    message = str(error.value)
    assert message.startswith("toonyou.safetensors is not the UNet of PASD: this is ")
    assert words in message and advice in message


@pytest.mark.parametrize(
    ("contents", "words", "advice"),
    [
        (manifest("pasd/manifest_unet_pasd"), "PASD's UNet", "unet_name"),
        (manifest("pasd/manifest_unet_pasd_light"), "PASD's light UNet", "unet_name"),
        (manifest("seesr/manifest_seesr_controlnet"), "SeeSR's control network", "yangtao9009"),
        (manifest("diffbir/manifest_v2"), "a DiffBIR control network", "yangtao9009"),
        (PERSONALIZED, "a Stable Diffusion UNet in diffusers form", "yangtao9009"),
    ],
    ids=["swapped", "swapped light", "seesr", "diffbir", "unet"],
)
def test_another_control_network_gets_a_sentence(contents, words, advice) -> None:
    with pytest.raises(CheckpointError) as error, naming():
        control_part(contents, "x.bin")
    message = str(error.value)
    assert message.startswith("x.bin is not the control network of PASD: this is ")
    assert words in message and advice in message


def test_a_size_that_no_key_tells_gets_a_sentence() -> None:
    control, _ = control_part(manifest("pasd/manifest_controlnet"))
    del control["mid_block.attentions.0.proj_in.weight"]
    with pytest.raises(
        CheckpointError, match=r"y\.bin is not .* no mid_block.attentions.0.proj_in"
    ):
        config_from(control, "y.bin")


@pytest.mark.parametrize(
    "key",
    [
        "conv_in.weight",
        "down_blocks.1.resnets.0.conv1.weight",
        "mid_block.attentions.0.proj_in.weight",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
    ],
)
def test_a_weight_without_the_dimension_that_tells_a_size_gets_a_sentence(key: str) -> None:
    control, _ = control_part(manifest("pasd/manifest_controlnet"))
    control[key] = torch.empty((), device="meta")
    with pytest.raises(CheckpointError, match=rf"y\.bin is not .*: {key} is \(\)\. "):
        config_from(control, "y.bin")
