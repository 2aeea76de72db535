"""The whole command: without ComfyUI, with files of every kind, and in a real ComfyUI."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from restoration.tools.check import command, environment
from restoration.tools.check.golden import Outcome
from restoration.tools.check.weights import check_weights
from restoration.tools.comfyui.find import Host
from restoration.tools.commands import main


@pytest.fixture
def quick(monkeypatch) -> None:
    """One case instead of all: they have tests of their own."""
    good = Outcome("a/b", "float32", 0.0, 1e-4)
    monkeypatch.setattr(command, "run_cases", lambda device, half: [good])


def test_without_comfyui_and_weights_the_cases_decide(quick, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command, "find_host", lambda: None)
    out = tmp_path / "check"
    assert main(["check", "--cpu", "-o", str(out)]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"passed: {out}.md and {out}.json")
    said = json.loads((tmp_path / "check.json").read_text("utf-8"))
    assert len(said["cases"]) == 1 and said["weights"] == said["workflows"] == []
    assert "--comfyui" in said["environment"]["problem"]
    bad = Outcome("a/b", "float32", 1.0, 1e-4)
    monkeypatch.setattr(command, "run_cases", lambda device, half: [bad])
    assert main(["check", "--cpu", "-q", "-o", str(out)]) == 1
    assert capsys.readouterr().out.startswith("FAILED: ")


def test_a_folder_that_holds_no_comfyui_or_no_report_is_a_sentence(
    quick, tmp_path, monkeypatch, capsys
) -> None:
    assert main(["check", "--comfyui", str(tmp_path)]) == 2
    assert "--comfyui names its folder" in capsys.readouterr().err
    monkeypatch.setattr(command, "find_host", lambda: None)  # asking a real one takes long
    (tmp_path / "file").write_bytes(b"")
    models = ["--models", str(tmp_path / "models"), "--no-workflows"]
    assert main(["check", "-q", "--cpu", *models, "-o", str(tmp_path / "file" / "x")]) == 2
    assert "Choose another --output" in capsys.readouterr().err


def test_every_weight_file_is_read_whole_and_named_below_its_folder(tmp_path) -> None:
    folder = tmp_path / "restoration"
    folder.mkdir()
    (folder / "v2.pth").write_bytes(b"<html>")
    save_file({"x": torch.zeros(1)}, folder / "somebody_elses.safetensors")
    (only,) = check_weights({"restoration": [folder]})
    assert (only.file, only.kind, only.published, only.passed) == (
        "v2.pth", "restoration", "unknown", False,
    )  # fmt: skip
    assert only.problem and len(only.sha256) == 64


def test_another_sha256_than_the_tables_is_told(tmp_path, monkeypatch) -> None:
    from dataclasses import replace

    from restoration.tools.check import weights

    name = "ram_tag_list.txt"
    tags = Path(__file__).parents[3] / "tagger" / name
    folder = tmp_path / "upscale_models"
    folder.mkdir()
    (folder / "BSRNet.pth").write_bytes(tags.read_bytes())
    table = weights.published_files()
    for digest, compared in (("0" * 64, "differs"), ("", "unknown")):
        known = {**table, "BSRNet.pth": replace(table["BSRNet.pth"], sha256=digest)}
        monkeypatch.setattr(weights, "published_files", lambda known=known: known)
        (only,) = check_weights({"upscale_models": [folder]})
        assert only.published == compared
        assert only.problem  # it is no file of weights at all


def test_a_host_that_cannot_be_asked_is_a_problem_and_the_rest_goes_on(
    quick, tmp_path, monkeypatch
) -> None:
    (tmp_path / "main.py").write_text("")
    (tmp_path / "comfy").mkdir()
    out = tmp_path / "check"
    assert main(["check", "-q", "--cpu", "--comfyui", str(tmp_path), "-o", str(out)]) == 1
    said = json.loads((tmp_path / "check.json").read_text("utf-8"))
    assert "could not be imported" in said["problems"][0] and said["cases"]
    assert str(tmp_path) not in json.dumps(said)


def test_facts_without_a_host_name_nobody() -> None:
    found = environment.environment(None, cpu=True)
    assert torch.__version__.startswith(found["packages"]["torch"])
    assert str(Path.home()) not in json.dumps(found)


@pytest.mark.slow  # it imports ComfyUI twice
@pytest.mark.server
def test_in_a_real_comfyui_the_workflow_without_files_runs(quick, host: Host, tmp_path) -> None:
    out = tmp_path / "check"
    assert main(["check", "-q", "--cpu", "--comfyui", str(host.path), "-o", str(out)]) == 0
    said = json.loads((tmp_path / "check.json").read_text("utf-8"))
    ran = {each["workflow"]: each for each in said["workflows"]}
    assert ran["quick_restore"]["state"] == "passed" and ran["quick_restore"]["peak"] > 0
    assert {each["state"] for each in ran.values()} == {"passed", "not run"}
    inside = {"a/b", "diffbir/control_forward", "pasd/controlnet", "seesr/controlnet"}
    assert {each["case"] for each in said["cases"] if each["passed"]} == inside
    asked = said["environment"]["host"]
    assert asked["type"] == "cpu" and asked["unet"] == "float32" and asked["attention"]
    text = (tmp_path / "check.md").read_text("utf-8")
    assert str(host.path) not in text and str(Path.home()) not in text


@pytest.fixture
def host() -> Host:
    from restoration.tools.comfyui.find import find_host, find_newer_host

    found = find_host() or find_newer_host()
    if found is None:
        pytest.skip("no ComfyUI found: set COMFYUI_PATH to a checkout")
    return found
