"""Which files are OSEDiff's and PiSA-SR's, strict about every adapter, and what others are told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.common.state_dict import CheckpointError, unwrapped
from restoration.onestep.config import SD2
from restoration.onestep.keys import UNET, VAE, kind_of, layout, read, unet_layers, vae_layers
from restoration.registry import naming
from restoration.tests.tools.weights.published import manifest, pickled_tables, shapes
from restoration.tools.weights.known import identify

OSEDIFF = pickled_tables("osediff/manifest_osediff")
PISASR = pickled_tables("pisasr/manifest_pisa_sr")
FILES = {"osediff": OSEDIFF, "pisasr": PISASR}
LAYERS, VAE_LAYERS = 258, 32


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def refused(contents: object, name: str = "x.pkl") -> str:
    with pytest.raises(CheckpointError) as error, naming():
        read(contents, name)
    return str(error.value)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("wrap", [lambda file: file, unwrapped], ids=["published", "converted"])
def test_published_files_are_read_whole(kind, wrap) -> None:
    weights = read(wrap(FILES[kind]))
    assert weights.kind == kind
    sets = {"osediff": [""], "pisasr": ["pix", "sem"]}[kind]
    assert list(weights.sets) == sets
    assert all(len(each) == LAYERS for each in weights.sets.values())
    assert len(weights.vae) == (VAE_LAYERS if kind == "osediff" else 0)
    assert set(weights.conv_in) == ({"weight", "bias"} if kind == "osediff" else set())
    assert {each.rank for adapters in weights.sets.values() for each in adapters.values()} == {4}


def test_adapted_layers_are_those_that_the_authors_name() -> None:
    """The lists of modules that every file holds, from which the layout is not made."""
    lists = [f"unet_lora_{part}_modules" for part in ("encoder", "decoder", "others")]
    named = {name.removesuffix(".weight") for each in lists for name in OSEDIFF[each]}
    ours = {key.removesuffix(".weight") for key in unet_layers(SD2)}
    assert ours == named and len(ours) == LAYERS
    vae = {name.removesuffix(".weight") for name in OSEDIFF["vae_lora_encoder_modules"]}
    assert {key.removesuffix(".weight") for key in vae_layers(SD2)} == vae


def test_the_layout_is_the_files() -> None:
    for kind, file in FILES.items():
        ranks = {(UNET, ""): 4, (VAE, ""): 4, (UNET, "_pix"): 4, (UNET, "_sem"): 4}
        assert layout(kind, ranks, SD2) == shapes(unwrapped(file))


def changed(file: dict[str, Any], table: str, **entries: Tensor | None) -> dict[str, Any]:
    """The file with entries of a table replaced, added or (None) left out."""
    kept = {**file[table], **{name.replace("__", "."): value for name, value in entries.items()}}
    return {**file, table: {name: value for name, value in kept.items() if value is not None}}


DEEP = "mid_block__resnets__0__conv1__lora_B__default_others__weight"
FIRST = "conv_in__lora_A__default_encoder__weight"


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (changed(OSEDIFF, "state_dict_unet", **{DEEP: None}), ["1 of 582 weights are missing"]),
        # The layer from which a rank might be read is like any other.
        (changed(OSEDIFF, "state_dict_unet", **{FIRST: None}), ["1 of 582 weights are missing"]),
        (
            changed(OSEDIFF, "state_dict_unet", **{FIRST: meta(5, 4, 3, 3)}),
            ["1 have another shape", "is (5, 4, 3, 3), expected (4, 4, 3, 3)"],
        ),
        (
            changed(OSEDIFF, "state_dict_unet", conv_in__base_layer__bias=None),
            ["1 of 582 weights are missing (state_dict_unet.conv_in.base_layer.bias)"],
        ),
        (
            changed(OSEDIFF, "state_dict_unet", conv_in__lora_A__other__weight=meta(4, 4)),
            ["1 do not belong to it (state_dict_unet.conv_in.lora_A.other.weight)"],
        ),
        (
            changed(OSEDIFF, "state_dict_unet", **{DEEP: meta(1280, 5, 1, 1)}),
            ["1 have another shape", "is (1280, 5, 1, 1), expected (1280, 4, 1, 1)"],
        ),
        (
            changed(OSEDIFF, "state_dict_vae", quant_conv__lora_A__default_encoder__weight=None),
            ["1 of 582 weights are missing (state_dict_vae.quant_conv"],
        ),
        (
            changed(PISASR, "state_dict_unet", conv_out__lora_A__default_decoder_sem__weight=None),
            ["1 of 1032 weights are missing"],
        ),
        ({**OSEDIFF, "rank_vae": 8}, ["says rank_vae 8, but its adapters have rank 4"]),
        ({**PISASR, "lora_rank_unet_sem": 2}, ["says lora_rank_unet_sem 2", "rank 4"]),
    ],
    ids=lambda value: value[0][:40] if isinstance(value, list) else "",
)
def test_every_module_is_asked_for(contents, words) -> None:
    said = refused(contents)
    title = "PiSA-SR" if "lora_rank_unet_pix" in contents else "OSEDiff"
    assert all(each in said for each in words), said
    assert said.startswith("x.pkl ") and "models/restoration" in said
    assert "says" in said or f"is not the file of {title}" in said
    assert "have another shape" not in said or "another shape" in words[0]


def test_numbers_that_are_none_are_refused() -> None:
    file = {key: torch.zeros(1).expand(value.shape) for key, value in unwrapped(PISASR).items()}
    assert read(file).kind == "pisasr"
    key = f"{UNET}conv_out.lora_A.default_decoder_pix.weight"
    assert "1 of 1032 weights are not finite" in refused({**file, key: file[key] * torch.nan})


def test_other_ranks_are_the_files_own() -> None:
    ranks = {(UNET, "_pix"): 16, (UNET, "_sem"): 2}
    other = {key: meta(*shape) for key, shape in layout("pisasr", ranks, SD2).items()}
    said = {"lora_rank_unet_pix": 16, "lora_rank_unet_sem": 2}
    weights = read({**other, **said})
    found = {name: each["conv_out"].rank for name, each in weights.sets.items()}
    assert found == {"pix": 16, "sem": 2}


def s3diff() -> dict[str, Any]:
    """As its program saves it: OSEDiff's tables, networks of its own, and a tensor beside them."""
    mlp = {"0.weight": meta(8, 8)}
    more = {
        f"state_dict_{part}_{kind}_mlp": mlp for part in ("unet", "vae") for kind in ("de", "block")
    }
    return {**OSEDIFF, **more, "w": meta(8, 8), "state_embeddings": {"state_dict_unet_block": mlp}}


OTHERS: dict[str, tuple[object, str]] = {
    "s3diff": (s3diff(), "the file of S3Diff, a one-step method that this pack does not have"),
    "seesr": (manifest("seesr/manifest_seesr_unet"), "SeeSR's UNet"),
    "dape": (manifest("seesr/manifest_dape_lora"), "SeeSR's DAPE"),
    "pasd": (manifest("pasd/manifest_controlnet"), "PASD's control network"),
    "diffbir": (manifest("diffbir/manifest_v2"), "a DiffBIR control network"),
    "base": (manifest("osediff/manifest_osediff", "base_unet"), "a Stable Diffusion UNet"),
    "lora": ({"a.lora_down.weight": torch.zeros(1)}, "a LoRA"),
    "empty": ({"rank_unet": 4, "state_dict_unet": {}}, "a file without any weights"),
    "none": (None, "a file without any weights"),
}


@pytest.mark.parametrize(("contents", "words"), OTHERS.values(), ids=OTHERS)
def test_others_are_refused_by_what_they_are(contents, words) -> None:
    said = refused(contents)
    assert kind_of(unwrapped(contents)) is None
    assert said.startswith("x.pkl is not the file of OSEDiff or of PiSA-SR: ") and words in said
    assert "preset/models" in said and "github.com/csslc/PiSA-SR" in said


def test_the_doctor_says_what_s3diff_is() -> None:
    with pytest.raises(CheckpointError, match=r"none of this pack's files: this is .*S3Diff"):
        identify(s3diff(), "s3diff.pkl")


@pytest.mark.parametrize(
    ("name", "said", "version", "what"),
    [
        ("osediff.pkl", {}, "osediff", "the adapters of OSEDiff"),
        ("OSEDiff_Face.pkl", {}, "osediff_face", "the adapters of OSEDiff for faces"),
        ("mine.safetensors", {"restoration.version": "osediff_face"}, "osediff_face", "faces"),
        ("face.safetensors", {"restoration.version": "osediff"}, "osediff", "OSEDiff"),
    ],
)
def test_the_name_tells_faces_apart(name, said, version, what) -> None:
    found = identify(OSEDIFF, name, said)
    assert found.version == version and what in found.what and found.complete


def test_the_name_tells_nothing_of_pisa_sr() -> None:
    assert identify(PISASR, "face_pisa_sr.pkl").version == "pisasr"
