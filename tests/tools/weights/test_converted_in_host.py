"""Converted files in the loaders of the nodes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from restoration.common.state_dict import CheckpointError
from restoration.tests.tools.weights import hostile, tiny
from restoration.tools.weights.convert import convert
from restoration.tools.weights.slim import slim

CASES = Path(__file__).parent.parent / "cases" / "weights"
pytestmark = pytest.mark.host


@pytest.fixture
def models(comfy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which ComfyUI looks for everything."""
    from restoration.host.folders import register_folders

    register_folders()
    tiny.use_tiny_sizes(monkeypatch)
    table = comfy.folder_paths.folder_names_and_paths
    for kind in ("restoration", "controlnet"):
        monkeypatch.setitem(table, kind, ([str(tmp_path)], {".safetensors"}))
    comfy.folder_paths.filename_list_cache.clear()
    return tmp_path


def weights_of(patcher) -> dict[str, torch.Tensor]:
    return {key: value.float() for key, value in patcher.model.state_dict().items()}


@pytest.mark.parametrize("variant", ["pasd", "pasd_light"])
@pytest.mark.parametrize("rrdb", [False, True])
def test_load_pasd_takes_a_converted_release(models, variant, rrdb) -> None:
    from restoration.host.folders import SAME_FILE
    from restoration.pasd.load import load_pasd, pasd_model

    unet, control = tiny.pasd_unet(variant), tiny.pasd_control(rrdb)
    folder = tiny.write_release(models / "published", unet, control)
    name = convert([folder], models).path.name
    ours, theirs = load_pasd(name, SAME_FILE), pasd_model(unet, control)
    assert ours.variant == variant and ours.config == theirs.config
    for part in ("encoder", "control", "attention"):
        loaded, expected = (weights_of(getattr(each, part)) for each in (ours, theirs))
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_load_seesr_takes_a_converted_release(models) -> None:
    from restoration.host.loading import read_file
    from restoration.seesr.load import seesr_model

    unet, control = tiny.seesr_unet(), tiny.seesr_control()
    folder = tiny.write_release(models / "published", unet, control)
    name = convert([folder], models).path.name
    contents = read_file("restoration", name)
    ours, plain = seesr_model(contents, contents, name, name, tiny.SEESR)
    theirs, base = seesr_model(unet, control, config=tiny.SEESR)
    assert plain.keys() == base.keys() and len(plain) > 50
    for part in ("control", "rca"):
        loaded, expected = (weights_of(getattr(each, part)) for each in (ours, theirs))
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_load_diffbir_controlnet_takes_a_converted_file(models) -> None:
    from restoration.diffbir.load import load_diffbir_control

    weights = tiny.diffbir()
    torch.save({"state_dict": weights}, models / "v2.pth")
    name = convert([models / "v2.pth"]).path.name
    network = load_diffbir_control(name, tiny.DIFFBIR).control_model
    loaded = network.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[key].float(), weights[key]) for key in weights)


def test_load_dape_takes_converted_files(models) -> None:
    from restoration.host.loading import read_file
    from restoration.tagger.load import build_tagger

    ram, dape = tiny.ram(), tiny.dape()
    torch.save({"model": ram}, models / "ram.pth")
    torch.save(dape, models / "DAPE.pth")
    names = [convert([models / file]).path.name for file in ("ram.pth", "DAPE.pth")]
    contents = [read_file("restoration", name) for name in names]
    ours = build_tagger(contents[0], None, contents[1], config=tiny.TAGGER)  # type: ignore
    theirs = build_tagger({"model": ram}, None, dape, config=tiny.TAGGER)  # type: ignore
    loaded, expected = weights_of(ours.patcher), weights_of(theirs.patcher)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("variant", ["pasd", "pasd_light"])
def test_slim_files_of_pasd_make_the_same_network(models, variant, ending) -> None:
    from restoration.pasd.load import load_pasd, pasd_model

    unet, control = tiny.pasd_unet(variant), tiny.pasd_control()
    folder = tiny.write_release(models / "release", unet, control, ending)
    saved = {path.parent.name: slim(path) for path in folder.glob(f"*/*.{ending}")}
    assert saved["unet"] > 0 and saved["controlnet"] == 0
    names = [f"release/{part}/diffusion_pytorch_model.{ending}" for part in ("unet", "controlnet")]
    ours, theirs = load_pasd(*names), pasd_model(unet, control)
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = [each.encoder.model(picture) for each in (ours, theirs)]
    torch.testing.assert_close(*features, rtol=0, atol=0)
    for part in ("encoder", "control", "attention"):
        loaded, expected = (weights_of(getattr(each, part)) for each in (ours, theirs))
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_slim_ram_tags_as_the_whole_one(models) -> None:
    from restoration.host.loading import read_file
    from restoration.tagger.load import build_tagger

    torch.manual_seed(0)
    ram = tiny.ram() | {"text_decoder.bert.weight": torch.randn(300, 300)}
    torch.save({"model": ram}, models / "ram.pth")
    assert slim(models / "ram.pth") > 300 * 300 * 4 - 20_000
    picture = torch.rand(1, 3, 40, 50)
    logits = []
    for contents in (read_file("restoration", "ram.pth"), {"model": ram}):
        model = build_tagger(contents, None, config=tiny.TAGGER)  # type: ignore
        with torch.no_grad():
            logits.append(model.network.logits(model.embed(picture)))
    assert torch.equal(*logits)


def test_loaders_give_hostile_and_damaged_files_a_sentence(models) -> None:
    from restoration.diffbir.load import load_diffbir_control
    from restoration.host.loading import read_file

    cases = list(CASES.iterdir())
    for path in (*cases, *hostile.hostile_files(models)):
        if path in cases:
            (models / path.name).write_bytes(path.read_bytes())
        with pytest.raises(CheckpointError) as error:
            load_diffbir_control(path.name, tiny.DIFFBIR)
        said = str(error.value)
        assert said.startswith(path.name) and said.isprintable() and len(said) < 700, said
    generator = random.Random(0)
    for name, whole in hostile.small_files().items():
        for data in hostile.damaged(whole, generator, 60):
            (models / name).write_bytes(data)
            try:
                read_file("restoration", name)
            except CheckpointError as error:
                assert str(error).startswith(name)


def test_load_diffbir_controlnet_takes_wrapped_keys_and_refuses_what_is_not_finite(models) -> None:
    from restoration.diffbir.load import load_diffbir_control

    weights = tiny.diffbir()
    for prefix in ("_orig_mod.", "module.", "module._orig_mod."):
        torch.save({f"{prefix}{key}": v for key, v in weights.items()}, models / "v2.pth")
        network = load_diffbir_control("v2.pth", tiny.DIFFBIR).control_model
        assert network.state_dict().keys() == weights.keys()
    weights["zero_convs.0.0.bias"][0] = float("nan")
    torch.save(weights, models / "v2.pth")
    words = r"v2.pth is not .*1 of \d+ weights are not finite \(first: zero_convs.0.0.bias\)"
    with pytest.raises(CheckpointError, match=words):
        load_diffbir_control("v2.pth", tiny.DIFFBIR)


def test_load_checkpoint_opens_none_without_its_unet(models) -> None:
    """So `--slim` cannot keep of a base what SeeSR reads: text encoder and VAE."""
    from comfy.sd import load_checkpoint_guess_config

    weights = {
        "cond_stage_model.model.ln_final.weight": torch.ones(1024),
        "first_stage_model.decoder.conv_in.weight": torch.ones(512, 4, 3, 3),
    }
    torch.save({"state_dict": weights}, models / "slim.ckpt")
    with pytest.raises(RuntimeError, match="Could not detect model type"):
        load_checkpoint_guess_config(str(models / "slim.ckpt"))
