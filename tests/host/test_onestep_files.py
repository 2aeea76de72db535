"""Load One-Step Restorer: the published pickles, converted files, half precision, and wrong files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from restoration.common.state_dict import CheckpointError
from restoration.tests.fuzz.weight_files import Runs
from restoration.tests.host.onestep_networks import CONFIG, contents_of, weights_of
from restoration.tests.tools.weights import tiny
from restoration.tools.commands import main as tools

pytestmark = pytest.mark.host

KINDS = ("osediff", "pisasr")


@pytest.fixture
def folder(comfy, tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """models/restoration with the published files."""
    from restoration.host import folders

    folders.register_folders()
    table = comfy.folder_paths.folder_names_and_paths
    monkeypatch.setitem(table, folders.KIND, ([str(tmp_path)], table[folders.KIND][1]))
    comfy.folder_paths.filename_list_cache.pop(folders.KIND, None)
    tiny.use_tiny_sizes(monkeypatch)
    torch.save(contents_of("osediff"), tmp_path / "osediff_face.pkl")
    torch.save(contents_of("pisasr"), tmp_path / "pisasr.pkl")
    yield tmp_path
    comfy.folder_paths.filename_list_cache.pop(folders.KIND, None)


NAMES = {"osediff": "osediff_face.pkl", "pisasr": "pisasr.pkl"}


def load(name: str) -> Any:
    from restoration.onestep.load import load_onestep

    return load_onestep(name, CONFIG).weights


def tensors(weights: Any) -> dict[str, torch.Tensor]:
    found = dict(weights.conv_in)
    for name, adapters in (*weights.sets.items(), ("vae", weights.vae)):
        for layer, (up, down) in adapters.items():
            found |= {f"{name}.{layer}.up": up, f"{name}.{layer}.down": down}
    return found


def same(a: Any, b: Any) -> bool:
    one, other = tensors(a), tensors(b)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_file_loads_as_the_published_one(folder, kind, capsys) -> None:
    published = load(NAMES[kind])
    assert published.kind == kind
    whole = weights_of(kind)
    assert len(tensors(published)) == len(whole)
    assert all(torch.equal(whole[key], value) for key, value in renamed(published).items())
    assert tools(["convert", str(folder / NAMES[kind])]) == 0
    converted = (folder / NAMES[kind]).with_suffix(".safetensors")
    assert same(load(converted.name), published)
    with safe_open(converted, "pt") as file:
        said = file.metadata()
    assert said["restoration.method"] == "onestep"
    version = {"osediff": "osediff_face", "pisasr": "pisasr"}[kind]
    assert said["restoration.version"] == version
    # The version outlives another name.
    other = converted.rename(folder / "other.safetensors")
    capsys.readouterr()
    for path in (folder / NAMES[kind], other):
        assert tools(["inspect", "--json", str(path)]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["method"], found["version"]) == ("onestep", version)


def renamed(weights: Any) -> dict[str, torch.Tensor]:
    """Some tensors of every part, by their names in a file."""
    found = {}
    for behind, adapters in weights.sets.items():
        end = f"default_encoder{behind and '_' + behind}.weight"
        up, down = adapters["conv_in"]
        found |= {
            f"state_dict_unet.conv_in.lora_A.{end}": down,
            f"state_dict_unet.conv_in.lora_B.{end}": up,
        }
    if weights.vae:
        end = "default_encoder.weight"
        found[f"state_dict_vae.quant_conv.lora_A.{end}"] = weights.vae["quant_conv"].down
        found["state_dict_unet.conv_in.base_layer.bias"] = weights.conv_in["bias"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_files_load_and_restore_close(folder, comfy, kind) -> None:
    from restoration.onestep.load import OneStepModel
    from restoration.tests.host import test_onestep as runs
    from restoration.tests.host.networks import tiny_vae
    from restoration.tests.host.onestep_networks import base_model

    half = {key: value.half() for key, value in weights_of(kind).items()}
    save_file(half, folder / "half.safetensors")
    torch.save(contents_of(kind, half), folder / "half.pkl")
    weights = load("half.safetensors")
    assert same(load("half.pkl"), weights)
    assert {value.dtype for value in tensors(weights).values()} == {torch.float16}
    model, vae = base_model(), tiny_vae()
    dials = {} if kind == "osediff" else {"lambda_pix": 0.6, "lambda_sem": 1.4}
    exact, close = (
        runs.restored(comfy, runs.applied(model, vae, OneStepModel(each, CONFIG, "x"), **dials))
        for each in (load(NAMES[kind]), weights)
    )
    assert 0 < (exact - close).abs().max() < 2e-2 * exact.abs().max()


def test_files_with_code_or_damage_are_refused(folder) -> None:
    data = (folder / "pisasr.pkl").read_bytes()
    (folder / "short.pkl").write_bytes(data[: len(data) // 2])
    canary = folder / "canary"
    torch.save({**contents_of("pisasr"), "run": Runs(canary)}, folder / "code.pkl")
    table = contents_of("osediff")
    table["state_dict_unet"]["conv_in.base_layer.bias"][0] = torch.nan
    torch.save(table, folder / "nan.pkl")
    torch.save({**contents_of("osediff"), "rank_unet": 16}, folder / "ranks.pkl")
    for name, words in (
        ("short.pkl", r"^short\.pkl .*(damaged|not ended|whole|again)"),
        ("code.pkl", r"^code\.pkl .*"),
        ("nan.pkl", r"1 of \d+ weights are not finite"),
        ("ranks.pkl", r"says rank_unet 16, but its adapters have rank 4"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load(name)
    assert not canary.exists()


def test_the_node_names_what_it_is_given(folder) -> None:
    """It knows the published sizes only."""
    from restoration.nodes.onestep import OneStepLoader

    save_file(tiny.seesr_control(), folder / "seesr.safetensors")
    save_file({"a.lora_down.weight": torch.zeros(1)}, folder / "lora.safetensors")
    for name, words in (
        ("seesr.safetensors", r"is not the file of OSEDiff or of PiSA-SR: this is SeeSR's"),
        ("lora.safetensors", r"is not the file of OSEDiff or of PiSA-SR: this is a LoRA\. Get"),
        ("pisasr.pkl", r"is not the file of PiSA-SR: .*are missing"),
    ):
        with pytest.raises(CheckpointError, match=rf"^{name}.*{words}"):
            OneStepLoader.execute(name)


def test_a_replaced_file_loads_again_and_the_list_has_pickles(folder) -> None:
    from restoration.nodes.onestep import OneStepLoader

    (part,) = OneStepLoader.define_schema().inputs
    assert set(NAMES.values()) <= set(part.options)
    before = OneStepLoader.fingerprint_inputs("pisasr.pkl")
    assert OneStepLoader.fingerprint_inputs("pisasr.pkl") == before
    (folder / "pisasr.pkl").write_bytes(b"1")
    assert OneStepLoader.fingerprint_inputs("pisasr.pkl") != before
