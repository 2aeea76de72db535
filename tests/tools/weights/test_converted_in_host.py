"""Converted files in the loaders of the nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from restoration.tests.tools.weights import tiny
from restoration.tools.weights.convert import convert

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
