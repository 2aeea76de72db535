"""Which files the DiffBIR control loader takes, and what it says about all others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from restoration.common.state_dict import CheckpointError
from restoration.diffbir.config import ControlConfig
from restoration.diffbir.keys import convert, layout, matches
from restoration.registry import describe, naming

GOLDEN = Path(__file__).parent.parent / "golden"


def manifest(name: str) -> dict[str, Tensor]:
    """Every key of a published file, on the meta device."""
    groups = json.loads((GOLDEN / f"{name}.json").read_text())["groups"]
    # A file of tables has them under their names, and not the base that they are laid over.
    tables = {f"{table}.": keys for table, keys in groups.items() if table.startswith("state_dict")}
    return {
        f"{table}{key}": torch.empty(
            shape, device="meta", dtype=torch.long if kind == "int" else torch.float
        )
        for table, group in (tables.items() if tables else (("", g) for g in groups.values()))
        for key, (shape, kind) in group.items()
    }


def shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in weights.items()}


CONTROL = manifest("diffbir/manifest_v2")


def with_hint_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """An ordinary Stable Diffusion 2.1 ControlNet."""
    return {
        **weights,
        "input_blocks.0.0.weight": torch.empty(320, 4, 3, 3, device="meta"),
        "input_hint_block.0.weight": torch.empty(16, 3, 3, 3, device="meta"),
    }


@pytest.mark.parametrize("version", ["v1_general", "v2", "v2.1"])
def test_key_table_is_that_of_the_published_files(version) -> None:
    assert layout() == shapes(manifest(f"diffbir/manifest_{version}"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: sd,
        lambda sd: {"state_dict": sd, "global_step": 25000},
        lambda sd: {f"module.{key}": value for key, value in sd.items()},
        lambda sd: {"state_dict": {f"module.{key}": value for key, value in sd.items()}},
        lambda sd: {f"control_model.{key}": value for key, value in sd.items()},
        lambda sd: {"state_dict": manifest("diffbir/manifest_general_full_v1")},
        lambda sd: {"note": torch.zeros(()), "state_dict": sd},
    ],
    ids=["bare", "state_dict", "module", "both", "control_model", "full v1", "odd wrapping"],
)
def test_accepts_every_published_layout(wrap) -> None:
    contents = wrap(CONTROL)
    assert matches(contents)
    assert shapes(convert(contents, "v2.pth")) == layout()


def test_keeps_dtype_and_values() -> None:
    config = ControlConfig(model_channels=32, num_head_channels=16, context_dim=32)
    weights = {key: torch.randn(shape).half() for key, shape in layout(config).items()}
    converted = convert({f"module.{key}": value for key, value in weights.items()}, config=config)
    assert all(converted[key] is weights[key] for key in weights)


OTHERS = {
    "diffbir/manifest_swinir_general": "SwinIR",
    "diffbir/manifest_swinir_face": "SwinIR",
    "diffbir/manifest_swinir_realesrgan": "SwinIR",
    "diffbir/manifest_swinir_codeformer": "SwinIR",
    "diffbir/manifest_bsrnet": "BSRNet",
    "diffbir/manifest_scunet": "SCUNet",
    "pasd/manifest_controlnet": "PASD's control network",
    "pasd/manifest_controlnet_rrdb": "PASD's control network",
    "pasd/manifest_controlnet_sdxl": "PASD's control network",
    "pasd/manifest_unet_pasd": "PASD's UNet",
    "pasd/manifest_unet_pasd_light": "PASD's light UNet",
    "pasd/manifest_unet_pasd_sdxl": "PASD's UNet",
    "osediff/manifest_osediff": "the adapters of OSEDiff",
    "pisasr/manifest_pisa_sr": "the adapters of PiSA-SR",
    "seesr/manifest_dape_lora": "DAPE",
    "seesr/manifest_ram_swin_large_14m": "RAM",
    "seesr/manifest_seesr_controlnet": "SeeSR's control network",
    "seesr/manifest_seesr_unet": "SeeSR's UNet",
}


def test_all_manifests_are_tried() -> None:
    ours = {f"diffbir/manifest_{name}" for name in ("general_full_v1", "v1_general", "v2", "v2.1")}
    tables = {"seesr/manifest_tag_lists"}
    found = {f"{p.parent.name}/{p.stem}" for p in GOLDEN.rglob("manifest_*.json")}
    assert found == {*OTHERS, *ours, *tables}


@pytest.mark.parametrize(("name", "words"), OTHERS.items(), ids=OTHERS)
def test_refuses_every_other_file_by_name(name, words) -> None:
    contents = manifest(name)
    assert not matches(contents)
    with pytest.raises(CheckpointError) as error, naming():
        convert(contents, "some_file.pth")
    message = str(error.value)
    assert message.startswith("some_file.pth is not the DiffBIR control network: this is ")
    assert words in message.split("this is ")[1].split(". ")[0]
    assert "v2.pth" in message and "models/controlnet" in message


def part(prefix: str, source: str = "diffbir/manifest_general_full_v1") -> dict[str, Tensor]:
    weights = manifest(source)
    return {key: value for key, value in weights.items() if key.startswith(prefix)}


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (with_hint_encoder(CONTROL), "a Stable Diffusion ControlNet with a hint encoder"),
        (
            {f"control_model.{k}": v for k, v in with_hint_encoder(CONTROL).items()},
            "a Stable Diffusion ControlNet with a hint encoder",
        ),
        (
            {**CONTROL, "input_hint_block.0.weight": torch.empty(16, 3, 3, 3, device="meta")},
            "a Stable Diffusion ControlNet with a hint encoder",
        ),
        (part("model.diffusion_model."), "a Stable Diffusion checkpoint"),
        (
            {k.removeprefix("model.diffusion_model."): v for k, v in part("model.").items()},
            "a Stable Diffusion UNet",
        ),
        ({k.split(".", 1)[1]: v for k, v in part("first_stage_model.").items()}, "a VAE"),
        (part("cond_stage_model."), "a CLIP text encoder"),
        ({"a.lora_down.weight": torch.zeros(1)}, "a LoRA"),
        ({"alpha": torch.zeros(1), "beta": torch.zeros(1)}, "an unknown model (first of 2 keys: "),
        ({}, "a file without any weights"),
        ({"epoch": 3}, "a file without any weights"),
        ([1, 2], "a file without any weights"),
    ],
)
def test_says_what_a_wrong_file_is(contents, words) -> None:
    with pytest.raises(CheckpointError, match="this is ") as error, naming():
        convert(contents, "x.safetensors")
    assert words in str(error.value)


def test_full_v1_file_is_described_as_such() -> None:
    assert describe(manifest("diffbir/manifest_general_full_v1")) == "a whole DiffBIR v1 model"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda sd: [sd.pop("zero_convs.11.0.bias"), sd.pop("middle_block_out.0.weight")],
            "2 of 324 weights are missing (middle_block_out.0.weight, zero_convs.11.0.bias)",
        ),
        (
            lambda sd: sd.update({f"extra.{i}": torch.zeros(1) for i in range(5)}),
            "5 do not belong to it (extra.0, extra.1, extra.2, ...)",
        ),
        (
            lambda sd: sd.update({"zero_convs.0.0.bias": torch.zeros(7)}),
            "1 have another shape (zero_convs.0.0.bias is (7,), expected (320,))",
        ),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_is_strict_about_every_key(change, words) -> None:
    contents = dict(CONTROL)
    change(contents)
    with pytest.raises(CheckpointError) as error, naming():
        convert(contents, "half.pth")
    message = str(error.value)
    assert words in message and message.startswith("half.pth is not the DiffBIR control network: ")


def test_reports_all_kinds_of_trouble_at_once() -> None:
    contents = dict(CONTROL)
    del contents["time_embed.0.bias"]
    contents["other"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"1 of 324 .*, 1 do not belong"), naming():
        convert(contents)
