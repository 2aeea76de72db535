"""What the doctor says of every published file, and of files that are not whole."""

from __future__ import annotations

import builtins

import pytest
import torch
from torch import Tensor

from restoration.common.state_dict import CheckpointError, unwrapped
from restoration.tests.tools.weights.published import GOLDEN, manifest, pickled_tables
from restoration.tools.weights.known import identify

PUBLISHED = {
    "diffbir/manifest_v1_general": ("diffbir", "v1, v2 or v2.1", "whole"),
    "diffbir/manifest_v2": ("diffbir", "v1, v2 or v2.1", "whole"),
    "diffbir/manifest_v2.1": ("diffbir", "v1, v2 or v2.1", "whole"),
    "diffbir/manifest_general_full_v1": ("diffbir", "v1", "whole"),
    "diffbir/manifest_swinir_general": ("stage 1", "SwinIR", "whole"),
    "diffbir/manifest_swinir_face": ("stage 1", "SwinIR", "whole"),
    "diffbir/manifest_swinir_realesrgan": ("stage 1", "SwinIR", "whole"),
    "diffbir/manifest_swinir_codeformer": ("stage 1", "SwinIR", "whole"),
    "diffbir/manifest_bsrnet": ("stage 1", "BSRNet", "whole"),
    "diffbir/manifest_scunet": ("stage 1", "SCUNet", "whole"),
    "pasd/manifest_unet_pasd": ("pasd", "pasd", "unet"),
    "pasd/manifest_unet_pasd_light": ("pasd", "pasd_light", "unet"),
    "pasd/manifest_unet_pasd_sdxl": ("pasd", "pasd_sdxl", "unet"),
    "pasd/manifest_controlnet": ("pasd", "plain encoder, Stable Diffusion 1.x", "control network"),
    "pasd/manifest_controlnet_rrdb": (
        "pasd",
        "RRDB encoder, Stable Diffusion 1.x",
        "control network",
    ),
    "pasd/manifest_controlnet_sdxl": ("pasd", "plain encoder, SDXL", "control network"),
    "seesr/manifest_seesr_unet": ("seesr", "seesr", "unet"),
    "seesr/manifest_seesr_controlnet": ("seesr", "seesr", "control network"),
    "seesr/manifest_ram_swin_large_14m": ("seesr", "ram_swin_large_14m", "whole"),
    "seesr/manifest_dape_lora": ("seesr", "DAPE", "whole"),
    "osediff/manifest_osediff": ("onestep", "osediff", "whole"),
    "pisasr/manifest_pisa_sr": ("onestep", "pisasr", "whole"),
}


def test_every_manifest_of_weights_is_tried() -> None:
    found = {f"{path.parent.name}/{path.stem}" for path in GOLDEN.rglob("manifest_*.json")}
    assert found == {*PUBLISHED, "seesr/manifest_tag_lists"}


def contents(name: str) -> dict[str, Tensor]:
    if name.startswith(("osediff", "pisasr")):
        return unwrapped(pickled_tables(name))
    weights = manifest(name)
    if "swinir" in name or "scunet" in name or "bsrnet" in name or "dape" in name:
        # These are looked into; zeros of one element, repeated, take no memory.
        return {k: torch.zeros(1, dtype=v.dtype).expand(v.shape) for k, v in weights.items()}
    return weights


@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items(), ids=PUBLISHED)
def test_published_files_are_named_and_whole(name, expected) -> None:
    found = identify(contents(name), "some_file.pth")
    assert (found.method, found.version, found.part) == expected
    assert found.complete, (found.difference, found.problem)
    folders = {"diffbir": "controlnet", "stage 1": "upscale_models"}
    assert found.folder == folders.get(found.method, "restoration")


LOST = (".bias", "lora_A", "lora_B", "lora_B.default_others_sem.weight")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_weight_is_noticed(name) -> None:
    weights = contents(name)
    used = sorted(identify(weights, "x").weights)
    # RAM's decoder has two names, the full file a prefix: take a key that all three have.
    lost = next(key for key in reversed(used) if key.endswith(LOST))
    kept = {k: v for k, v in weights.items() if k.removeprefix("control_model.") != lost}
    assert len(kept) == len(weights) - 1
    found = identify(kept, "x")
    assert not found.complete
    assert found.problem or found.difference.missing == (lost,)


# The tagger's files hold more than is used, and spandrel passes over what BSRNet has not. PASD's
# own part of a UNet is what counts; the rest belongs to the user's checkpoint.
STRICT = [n for n in PUBLISHED if not any(word in n for word in ("ram_", "dape", "bsrnet"))]


@pytest.mark.parametrize("name", STRICT)
def test_a_strange_weight_is_noticed(name) -> None:
    key = (
        "up_blocks.1.attentions.9.proj_in_plus.bias" if "pasd/manifest_unet" in name else "strange"
    )
    prefix = "control_model." if "full" in name else ""
    found = identify({**contents(name), f"{prefix}{key}": torch.zeros(1)}, "x")
    assert not found.complete
    assert found.problem or found.difference.unexpected == (key,)


def test_a_file_with_both_variants_of_pasd_is_not_whole() -> None:
    weights = manifest("pasd/manifest_unet_pasd_light")
    weights["up_blocks.1.pixel_attentions.0.norm.bias"] = torch.empty(1280, device="meta")
    assert identify(weights).difference.unexpected


def test_another_shape_is_noticed() -> None:
    weights = manifest("diffbir/manifest_v2")
    weights["zero_convs.3.0.bias"] = torch.empty(7, device="meta")
    assert identify(weights).difference.reshaped == ("zero_convs.3.0.bias",)


def test_the_published_name_tells_the_version_of_diffbir() -> None:
    weights = manifest("diffbir/manifest_v2.1")
    assert identify(weights, "DiffBIR_v2.1.pt").version == "v2.1"
    renamed = identify(weights, "my.pt")
    assert renamed.version == "v1, v2 or v2.1" and "same keys" in renamed.notes[0]
    converted = identify(weights, "my.safetensors", {"restoration.version": "v2.1"})
    assert converted.version == "v2.1"


def test_weights_beside_the_used_ones_are_counted() -> None:
    found = identify(manifest("seesr/manifest_ram_swin_large_14m"))
    assert len(found.weights) == 366 and found.notes[0].startswith("676 weights")
    found = identify(manifest("pasd/manifest_unet_pasd_light"))
    assert len(found.weights) == 81 and found.notes[0].startswith("686 weights")


def test_added_weights_alone_say_what_they_need() -> None:
    found = identify(manifest("pasd/manifest_unet_pasd", "added"))
    assert found.version == "pasd" and "control network is needed" in found.notes[0]
    found = identify(manifest("seesr/manifest_seesr_unet", "added"))
    assert found.complete and "your SD 2.x model" in found.notes[0]


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (manifest("pasd/manifest_unet_pasd", "base"), "a Stable Diffusion UNet in diffusers form"),
        (manifest("pasd/manifest_controlnet", "base"), "an unknown model"),
        ({"a.lora_down.weight": torch.zeros(1)}, "a LoRA"),
        ({"text_model.encoder.x": torch.zeros(1)}, "a CLIP text encoder"),
        ({}, "a file without any weights"),
    ],
)
def test_other_files_are_refused_by_name(weights, words) -> None:
    with pytest.raises(CheckpointError, match=r"^x\.pth is none of this pack's files: ") as error:
        identify(weights, "x.pth")
    assert words in str(error.value)


def test_without_spandrel_stage_1_is_named_but_not_checked(monkeypatch) -> None:
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "spandrel":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    found = identify(manifest("diffbir/manifest_scunet"))
    assert found.version == "SCUNet" and "not checked key by key" in found.notes[0]
