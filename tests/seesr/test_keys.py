"""Which files are SeeSR's and its tagger's, how they split, and how DAPE is merged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from restoration.common.state_dict import CheckpointError
from restoration.registry import naming
from restoration.seesr.config import SD2
from restoration.seesr.keys import IDENTITY, control_part, unet_parts
from restoration.tagger.config import RAM
from restoration.tagger.keys import dape_pairs, merge_dape, ram_weights
from restoration.tagger.ram import Tagger

GOLDEN = Path(__file__).parent.parent / "golden"


def manifest(name: str, *groups: str) -> dict[str, Tensor]:
    """The keys of a published file, on the meta device."""
    found = json.loads((GOLDEN / f"{name}.json").read_text())["groups"]
    return {
        key: torch.empty(shape, device="meta")
        for group in groups or found
        for key, (shape, _) in found[group].items()
    }


UNET = manifest("seesr/manifest_seesr_unet")
CONTROL = manifest("seesr/manifest_seesr_controlnet")
RAM_FILE = manifest("seesr/manifest_ram_swin_large_14m")
DAPE_FILE = manifest("seesr/manifest_dape_lora", "inference")
LAYOUT = {k: tuple(v.shape) for k, v in Tagger(RAM, device="meta").state_dict().items()}
BOTH = {f"unet.{k}": v for k, v in UNET.items()} | {
    f"controlnet.{k}": v for k, v in CONTROL.items()
}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: sd,
        lambda sd: {"state_dict": sd, "step": 3},
        lambda sd: {f"module.{k}": v for k, v in sd.items()},
    ],
    ids=["bare", "state_dict", "module"],
)
def test_published_files_split_into_plain_and_added(wrap) -> None:
    plain, added = unet_parts(wrap(UNET))
    assert (len(plain), len(added)) == (686, 416)
    assert set(plain) | set(added) == set(UNET)
    assert set(control_part(wrap(CONTROL))) == set(CONTROL)


def test_a_converted_file_holds_both() -> None:
    plain, added = unet_parts(BOTH)
    assert set(plain) | set(added) == set(UNET)
    assert set(control_part(BOTH)) == set(CONTROL)


def test_sites_are_those_of_the_files() -> None:
    """Name and width of every RCA, from the published keys alone."""
    for weights, sites, count in ((UNET, SD2.unet_sites, 16), (CONTROL, SD2.encoder_sites, 7)):
        end = "norm.weight"
        found = {
            key.removesuffix(end): len(value)
            for key, value in weights.items()
            if key.endswith(f".{end}")
            and ".image_attentions." in key
            and ".transformer_" not in key
        }
        assert {site.name: site.channels for site in sites} == found
        assert len(sites) == len({site.layer for site in sites}) == count


def test_layers_of_the_host_are_those_of_the_specification() -> None:
    layers = [site.layer for site in SD2.unet_sites]
    encoder = [f"input_blocks.{n}" for n in (1, 2, 4, 5, 7, 8)]
    decoder = [f"output_blocks.{n}" for n in range(3, 12)]
    assert layers == [*encoder, "middle_block.1", *decoder]


def test_the_file_tells_which_base_it_belongs_to() -> None:
    plain, _ = unet_parts(UNET)
    assert set(IDENTITY) <= set(plain)


OTHERS = {
    "diffbir/manifest_v2": "a DiffBIR control network",
    "diffbir/manifest_swinir_general": "SwinIR",
    "diffbir/manifest_general_full_v1": "a whole DiffBIR v1 model",
    "pasd/manifest_controlnet": "PASD's control network",
    "pasd/manifest_unet_pasd": "PASD's UNet",
    "seesr/manifest_dape_lora": "SeeSR's DAPE, a LoRA for RAM",
    "seesr/manifest_ram_swin_large_14m": "the tagger RAM",
}


@pytest.mark.parametrize(("name", "words"), OTHERS.items(), ids=OTHERS)
def test_other_files_are_refused_by_name(name, words) -> None:
    contents = manifest(name)
    for take, what in ((unet_parts, "UNet"), (control_part, "control network")):
        with pytest.raises(CheckpointError) as error, naming():
            take(contents, "x.pth")
        message = str(error.value)
        assert message.startswith(f"x.pth is not the {what} of SeeSR: this is {words}")
        assert "https://github.com/cswry/SeeSR" in message and "models/restoration" in message


def test_swapped_files_are_told_their_place() -> None:
    told = r"SeeSR's control network\. It belongs into control_"
    with pytest.raises(CheckpointError, match=told), naming():
        unet_parts(CONTROL)
    with (
        pytest.raises(CheckpointError, match=r"SeeSR's UNet\. It belongs into unet_name"),
        naming(),
    ):
        control_part(UNET)


def test_a_plain_sd_network_is_not_seesr() -> None:
    plain = manifest("seesr/manifest_seesr_unet", "base")
    with (
        pytest.raises(CheckpointError, match="a Stable Diffusion UNet in diffusers form"),
        naming(),
    ):
        unet_parts(plain)
    plain = manifest("seesr/manifest_seesr_controlnet", "base")
    with (
        pytest.raises(CheckpointError, match="a Stable Diffusion ControlNet in diffusers form"),
        naming(),
    ):
        control_part(plain)


def test_ram_is_strict_about_what_tagging_runs_and_tolerant_about_the_rest() -> None:
    assert set(ram_weights({"model": RAM_FILE, "epoch": 1}, LAYOUT)) == set(LAYOUT)
    more = {**RAM_FILE, "text_decoder.new": torch.empty(1)}
    assert set(ram_weights(more, LAYOUT)) == set(LAYOUT)
    less = {key: value for key, value in RAM_FILE.items() if key != "fc.bias"}
    with (
        pytest.raises(CheckpointError, match=r"1 of \d+ weights are missing \(fc\.bias\)"),
        naming(),
    ):
        ram_weights(less, LAYOUT, "ram.pth")
    reshaped = {**RAM_FILE, "label_embed": torch.empty(9, 512, device="meta")}
    with (
        pytest.raises(CheckpointError, match=r"label_embed is \(9, 512\), expected \(4585, 512\)"),
        naming(),
    ):
        ram_weights(reshaped, LAYOUT)


@pytest.mark.parametrize(
    ("contents", "words"),
    [(UNET, "SeeSR's UNet"), (DAPE_FILE, "SeeSR's DAPE"), ({}, "a file without any weights")],
    ids=["unet", "dape", "empty"],
)
def test_what_is_not_ram_is_refused_by_name(contents, words) -> None:
    with (
        pytest.raises(CheckpointError, match=rf"^r\.pth is not RAM: this is {words}.*14m\.pth"),
        naming(),
    ):
        ram_weights(contents, LAYOUT, "r.pth")


@pytest.mark.parametrize(
    ("contents", "words"),
    [(RAM_FILE, "the tagger RAM"), ({"a.lora_down.weight": torch.zeros(1)}, "a LoRA")],
    ids=["ram", "lora"],
)
def test_what_is_not_dape_is_refused_by_name(contents, words) -> None:
    weights = {key: torch.empty(shape, device="meta") for key, shape in LAYOUT.items()}
    with (
        pytest.raises(CheckpointError, match=rf"^d\.pth is not DAPE: this is {words}.*DAPE\.pth"),
        naming(),
    ):
        dape_pairs(contents, weights, "d.pth")


def test_a_trained_part_that_nobody_runs_is_refused() -> None:
    """The published file leaves it at zero; if not, the reference would merge it elsewhere too."""
    weights = {key: torch.empty(shape, device="meta") for key, shape in LAYOUT.items()}
    tied = "tag_encoder.encoder.layer.0.crossattention.self.query.lora_B"
    assert dape_pairs({**DAPE_FILE, tied: torch.zeros(768, 8)}, weights)
    with pytest.raises(CheckpointError, match=f"also changes {tied}"), naming():
        dape_pairs({**DAPE_FILE, tied: torch.ones(768, 8)}, weights)


@pytest.fixture
def small() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(weights, LoRA) of one joint projection, a query, a key and a value."""
    qkv = "visual_encoder.layers.0.blocks.0.attn.qkv."
    cross = "tagging_head.encoder.layer.0.crossattention.self."
    weights = {f"{qkv}weight": torch.randn(36, 12)}
    lora = {f"{qkv}lora_A": torch.randn(16, 12), f"{qkv}lora_B": torch.randn(24, 8)}
    for name in ("query", "key", "value"):
        weights[f"{cross}{name}.weight"] = torch.randn(20, 12)
    for name in ("query", "key"):
        lora[f"{cross}{name}.lora_A"] = torch.randn(8, 12)
        lora[f"{cross}{name}.lora_B"] = torch.randn(20, 8)
    return weights, lora


@pytest.mark.parametrize("strength", [1.0, 0.4, 2.0])
def test_dape_changes_queries_and_values_by_an_eighth_of_its_product(small, strength) -> None:
    weights, lora = small
    merged = merge_dape(weights, dape_pairs(lora, weights), strength)
    qkv, *others = weights
    a, b = (lora[qkv.replace("weight", f"lora_{part}")] for part in "AB")
    scale = strength / 8
    expected = weights[qkv].clone()
    expected[:12] += scale * b[:12] @ a[:8]
    expected[24:] += scale * b[12:] @ a[8:]
    torch.testing.assert_close(merged[qkv], expected)
    assert torch.equal(merged[qkv][12:24], weights[qkv][12:24]), "keys of the backbone stay"
    for key in others:
        if key.endswith("value.weight"):
            assert merged[key] is weights[key]
            continue
        a, b = (lora[key.replace("weight", f"lora_{part}")] for part in "AB")
        torch.testing.assert_close(merged[key], weights[key] + scale * b @ a)


def test_strength_0_is_plain_ram(small) -> None:
    weights, lora = small
    before = {key: value.clone() for key, value in weights.items()}
    merged = merge_dape(weights, dape_pairs(lora, weights), 0.0)
    assert all(torch.equal(merged[key], before[key]) for key in before)
    merge_dape(weights, dape_pairs(lora, weights), 1.0)
    assert all(torch.equal(weights[key], before[key]) for key in before), "the file was changed"
