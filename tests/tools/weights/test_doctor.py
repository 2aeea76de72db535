"""The doctor's commands: their words and their exit codes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from restoration.stage1.restorer import BUNDLED_WEIGHTS, ENLARGERS
from restoration.tests.tools.weights import tiny
from restoration.tools.commands import main


@pytest.fixture(autouse=True)
def _tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.use_tiny_sizes(monkeypatch)


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    torch.save(tiny.diffbir(), tmp_path / "v2.pth")
    return tmp_path / "v2.pth"


def test_inspect_says_all_there_is_to_say(v2, capsys) -> None:
    assert main(["inspect", str(v2)]) == 0
    said = capsys.readouterr().out
    weights = tiny.diffbir()
    count = sum(value.numel() for value in weights.values())
    digest = hashlib.sha256(v2.read_bytes()).hexdigest()
    for line in (
        "what        DiffBIR's control network",
        "method      diffbir, version v2",
        f"weights     {len(weights)}, {count:,} parameters, float32",
        "complete    yes",
        "belongs in  models/controlnet",
        f"sha256      {digest}  v2.pth",
    ):
        assert f"  {line}\n" in said


def test_inspect_reports_what_is_wrong_and_fails(v2, tmp_path, capsys) -> None:
    weights = tiny.diffbir()
    for i in range(4):
        weights[f"strange.{i}"] = torch.zeros(1).half()
    del weights["zero_convs.0.0.bias"]
    torch.save(weights, tmp_path / "bad.pth")
    assert main(["inspect", "--keys", str(tmp_path / "bad.pth"), str(v2)]) == 1
    said = capsys.readouterr().out
    assert (
        "NO: 1 missing (zero_convs.0.0.bias); "
        "4 unexpected (strange.0, strange.1, strange.2, ...)" in said
    )
    assert "    missing     zero_convs.0.0.bias\n" in said and "unexpected  strange.3\n" in said
    assert "float16 (4)" in said
    assert said.count("complete    yes") == 1  # the other file, all the same


def test_inspect_goes_on_after_a_file_that_is_not_ours(v2, tmp_path, capsys) -> None:
    torch.save({"a.lora_up.weight": torch.zeros(1)}, tmp_path / "lora.pt")
    assert main(["inspect", "--json", str(tmp_path / "lora.pt"), str(v2)]) == 1
    lora, ours = json.loads(capsys.readouterr().out)
    assert lora["error"] == "lora.pt is none of this pack's files: this is a LoRA."
    assert ours["complete"] and ours["version"] == "v2" and ours["missing"] == []


def test_inspect_takes_the_folder_of_a_network(tmp_path, capsys) -> None:
    tiny.write_release(tmp_path, tiny.pasd_unet("pasd_light"), tiny.pasd_control())
    assert main(["inspect", str(tmp_path / "unet"), str(tmp_path / "controlnet")]) == 0
    said = capsys.readouterr().out
    assert "PASD's light UNet" in said and "PASD's control network" in said


def test_inspect_looks_into_everything_below_a_folder(tmp_path, capsys) -> None:
    tiny.write_release(tmp_path / "a", tiny.pasd_unet(), tiny.pasd_control())
    torch.save(tiny.dape(), tmp_path / "DAPE.pth")
    (tmp_path / "ram_tag_list.txt").write_text("a tag\n")
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["inspect", "--json", str(tmp_path)]) == 1  # for the list
    found = {facts["file"]: facts for facts in json.loads(capsys.readouterr().out)}
    names = ("DAPE.pth", "a/controlnet", "a/unet", "ram_tag_list.txt")
    assert list(found) == [str(tmp_path / name) for name in names]
    assert [found[str(tmp_path / name)]["complete"] for name in names] == [True] * 3 + [False]
    assert main(["inspect", str(tmp_path / "ram_tag_list.txt")]) == 1
    assert "NO: ram_tag_list.txt is not the published list" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    assert main(["inspect", str(tmp_path / "empty")]) == 1
    assert "name the folder of one network" in capsys.readouterr().out


def test_inspect_takes_a_network_in_parts_of_either_name(tmp_path, capsys) -> None:
    unet, folder = tiny.pasd_unet(), tmp_path / "unet"
    folder.mkdir()
    for number, keys in enumerate((sorted(unet)[:100], sorted(unet)[100:]), 1):
        path = folder / f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({key: unet[key] for key in keys}, path)
    for place in (folder, tmp_path):
        assert main(["inspect", str(place)]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"{folder} (") and said.count("complete    yes") == 1
    path.unlink()
    assert main(["inspect", str(tmp_path)]) == 1
    assert capsys.readouterr().out.count(f"{folder} holds 1 of 2 parts") == 1


def test_inspect_names_files_that_are_not_the_network_of_their_folder(tmp_path, capsys) -> None:
    torch.save(tiny.diffbir(), tmp_path / "pytorch_model_v2.pth")
    torch.save(tiny.dape(), tmp_path / "DAPE.pth")
    assert main(["inspect", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'pytorch_model_v2.pth'} (" in said and "DiffBIR's control network" in said
    tiny.write_release(tmp_path, tiny.pasd_unet(), tiny.pasd_control())
    torch.save(tiny.pasd_unet(), tmp_path / "unet" / "diffusion_pytorch_model_ema.bin")
    assert main(["inspect", "--json", str(tmp_path)]) == 0
    found = [Path(facts["file"]).name for facts in json.loads(capsys.readouterr().out)]
    assert found == [
        "DAPE.pth", "controlnet", "pytorch_model_v2.pth", "unet", "diffusion_pytorch_model_ema.bin",
    ]  # fmt: skip


def test_inspect_goes_through_links_to_folders_but_not_in_circles(tmp_path, capsys) -> None:
    disk, models = tmp_path / "disk", tmp_path / "models"
    disk.mkdir()
    models.mkdir()
    torch.save(tiny.dape(), disk / "DAPE.pth")
    for link, target in ((models / "linked", disk), (disk / "back", models)):
        link.symlink_to(target, target_is_directory=True)
    assert main(["inspect", str(models)]) == 0
    assert f"{models / 'linked' / 'DAPE.pth'} (" in capsys.readouterr().out


def test_the_face_detector_is_known_by_its_name(tmp_path, capsys) -> None:
    path = tmp_path / "face_detection_yunet_2023mar.onnx"
    path.write_bytes(b"\x08\x06\x12\x00\xff")
    assert main(["inspect", str(path)]) == 0
    assert "YuNet" in capsys.readouterr().out
    path.write_text("<!doctype html><title>Sign in</title>")
    assert main(["inspect", str(path)]) == 1
    assert "it is a web page" in capsys.readouterr().out


def test_what_cannot_be_written_is_a_sentence(v2, tmp_path, capsys) -> None:
    (tmp_path / "taken").touch()
    assert main(["convert", str(v2), "-o", str(tmp_path / "taken" / "deeper" / "x")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1].endswith("choose another --output.") and "is a file" in said[-1]


def test_convert_says_what_it_did(v2, capsys) -> None:
    assert main(["convert", str(v2)]) == 0
    said = capsys.readouterr().out
    target = v2.with_suffix(".safetensors")
    assert said.startswith(f"Wrote {target} (diffbir, version v2, ")
    assert said.endswith(f"sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}\n")
    assert main(["convert", str(v2)]) == 0
    assert capsys.readouterr().out.startswith("Already converted from the same sources: ")
    torch.save(tiny.diffbir(), v2)
    assert main(["convert", str(v2)]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["convert", "--force", str(v2)]) == 0


def test_the_sha256_beside_a_file_is_what_sha256sum_checks(v2, tmp_path) -> None:
    main(["convert", str(v2)])
    line = (tmp_path / "v2.safetensors.sha256").read_text()
    digest, name = line.rstrip("\n").split("  ")
    assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest


def test_weights_that_are_not_finite_are_not_complete(v2, tmp_path, capsys) -> None:
    weights = tiny.diffbir()
    for value in weights.values():
        value.fill_(float("nan"))
    torch.save(weights, v2)
    count, first = len(weights), min(weights)
    assert main(["inspect", str(v2)]) == 1
    said = f"complete    NO: {count} of {count} weights are not finite (first: {first})\n"
    assert said in capsys.readouterr().out
    assert main(["inspect", "--json", str(v2)]) == 1
    assert json.loads(capsys.readouterr().out)[0]["not_finite"] == sorted(weights)
    assert main(["inspect", "--keys", str(v2)]) == 1
    assert f"    not finite  {first}\n" in capsys.readouterr().out
    assert main(["convert", str(v2)]) == 1
    assert "is not whole: " in capsys.readouterr().err
    comfyui = tmp_path / "ComfyUI"
    (comfyui / "models" / "controlnet").mkdir(parents=True)
    (comfyui / "main.py").touch()
    v2.rename(comfyui / "models" / "controlnet" / "v2.pth")
    assert main(["list", "--comfyui", str(comfyui)]) == 0
    said = capsys.readouterr().out
    assert "  [!] v2.pth: DiffBIR's control network, version v2\n" in said
    assert f"v2.pth is not whole: {count} of {count} weights are not finite" in said


def test_foreign_prefixes_are_named_and_nothing_is_contradicted(tmp_path, capsys) -> None:
    weights = {f"net.{key}": value for key, value in tiny.diffbir().items()}
    torch.save(weights, tmp_path / "v2.pth")
    for command in ("inspect", "convert"):
        assert main([command, str(tmp_path / "v2.pth")]) == 1
        said = "".join(capsys.readouterr())
        assert "v2.pth looks like a DiffBIR control network, but its names or shapes" in said
        assert f"(first of {len(weights)} names: net." in said


@pytest.mark.parametrize("file", [BUNDLED_WEIGHTS, *ENLARGERS.values()], ids=lambda file: file.stem)
def test_inspect_knows_the_models_that_come_with_the_pack(file, capsys) -> None:
    assert main(["inspect", str(file)]) == 0
    said = capsys.readouterr().out
    assert "the light model that comes with the pack" in said
    assert "complete    yes" in said and "belongs in  the pack's own folder" in said
