"""Which models are found where."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from restoration import registry
from restoration.common.state_dict import CheckpointError
from restoration.tests.tools.weights import tiny
from restoration.tools.commands import main
from restoration.tools.weights import installed as module
from restoration.tools.weights.installed import DEFAULTS, installed, model_folders

FILES = {file.name: (file.url, file.folder) for file in registry.files().values()}


@pytest.fixture(autouse=True)
def _tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.use_tiny_sizes(monkeypatch)


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    folder = tmp_path / "ComfyUI"
    for kind in DEFAULTS:
        (folder / "models" / kind).mkdir(parents=True)
    (folder / "main.py").touch()
    return folder


def rows(comfyui: Path) -> dict[str, module.Row]:
    return {row.name: row for row in installed(model_folders(comfyui))}


def test_everything_is_missing_at_first_and_has_an_address(comfyui) -> None:
    found = rows(comfyui)
    assert found.keys() == FILES.keys()
    for name, (url, kind) in FILES.items():
        assert (found[name].paths, found[name].url, found[name].kind) == ((), url, kind)
    assert {row.kind for row in found.values()} == set(DEFAULTS)


def test_named_files_are_found_in_folders_of_folders_and_after_conversion(comfyui) -> None:
    models = comfyui / "models"
    (models / "upscale_models" / "any").mkdir()
    (models / "upscale_models" / "any" / "BSRNet.pth").touch()
    (models / "upscale_models" / "scunet_color_real_psnr.safetensors").touch()
    (models / "upscale_models" / "v2.pth").touch()  # not where its loader looks
    found = rows(comfyui)
    assert found["BSRNet.pth"].paths == (str(models / "upscale_models" / "any" / "BSRNet.pth"),)
    converted = str(models / "upscale_models" / "scunet_color_real_psnr.safetensors")
    assert found["scunet_color_real_psnr.pth"].paths == (converted,)
    assert not found["v2.pth"].paths


def test_a_published_file_counts_in_each_of_its_formats(comfyui) -> None:
    models = comfyui / "models"
    checkpoint = models / "checkpoints" / "v2-1_512-ema-pruned.safetensors"
    save_file({"a": torch.zeros(1)}, checkpoint)
    release = models / "restoration" / "pasd" / "checkpoint-100000"
    tiny.write_release(release, tiny.pasd_unet(), tiny.pasd_control(), "bin")
    found = rows(comfyui)
    row = found["v2-1_512-ema-pruned.ckpt"]
    assert row.paths == (str(checkpoint),) and not row.problem
    row = found["pasd/checkpoint-100000/unet/diffusion_pytorch_model.safetensors"]
    assert row.paths == (str(release / "unet" / "diffusion_pytorch_model.bin"),)
    assert found.keys() == FILES.keys()


def test_what_is_no_file_of_weights_is_told_in_every_folder(comfyui) -> None:
    models = comfyui / "models"
    page = "<!doctype html><title>Sign in</title>"
    for kind, name in (
        ("checkpoints", "v1-5-pruned-emaonly-fp16.safetensors"),
        ("upscale_models", "BSRNet.pth"),
        ("restoration", "face_detection_yunet_2023mar.onnx"),
    ):
        (models / kind / name).write_text(page)
        assert "it is a web page" in rows(comfyui)[name].problem


def test_every_file_says_which_workflows_need_it(comfyui) -> None:
    found = rows(comfyui)
    assert all(row.workflows for row in found.values())
    assert "diffbir_face" in found["face_swinir_v1.ckpt"].workflows
    assert "quick_restore" not in {title for row in found.values() for title in row.workflows}


def test_releases_are_found_where_the_workflows_look_for_them(comfyui) -> None:
    folder = comfyui / "models" / "restoration"
    unet, control = tiny.pasd_unet(), tiny.pasd_control()
    release = folder / "pasd" / "checkpoint-100000"
    tiny.write_release(release, unet, control, "safetensors")
    found = rows(comfyui)
    for part, what in (("unet", "PASD's UNet, version pasd"), ("controlnet", "PASD's control")):
        row = found[f"pasd/checkpoint-100000/{part}/diffusion_pytorch_model.safetensors"]
        assert row.paths == (str(release / part / "diffusion_pytorch_model.safetensors"),)
        assert row.what.startswith(what) and not row.problem
    other = found["pasd_light/checkpoint-120000/unet/diffusion_pytorch_model.safetensors"]
    assert not other.paths
    assert found.keys() == FILES.keys()


@pytest.mark.parametrize("method", ["pasd", "seesr"])
def test_a_conversion_in_its_release_counts_for_both_files(comfyui, method) -> None:
    folder = comfyui / "models" / "restoration"
    name = {"pasd": "pasd/checkpoint-100000", "seesr": "seesr"}[method]
    unet, control = getattr(tiny, f"{method}_unet")(), getattr(tiny, f"{method}_control")()
    tiny.write_release(folder / name, unet, control)
    assert main(["convert", str(folder / name)]) == 0
    for part in ("unet", "controlnet"):
        shutil.rmtree(folder / name / part)
    torch.save(tiny.dape(), folder / "DAPE.pth")
    assert main(["convert", str(folder / "DAPE.pth"), "-o", str(folder / name)]) == 0
    shutil.copy(folder / name / f"{method}.safetensors", folder / "aside.safetensors")
    found = rows(comfyui)
    for part in ("unet", "controlnet"):
        row = found[f"{name}/{part}/diffusion_pytorch_model.safetensors"]
        assert row.paths == (str(folder / name / f"{method}.safetensors"),) and not row.problem
    assert f"{method}.safetensors" not in found and found["aside.safetensors"].what
    other = {"pasd": "seesr", "seesr": "pasd/checkpoint-100000"}[method]
    (folder / other).mkdir(parents=True)
    shutil.copy(folder / "aside.safetensors", folder / other)
    assert not rows(comfyui)[f"{other}/unet/diffusion_pytorch_model.safetensors"].paths


def test_links_to_folders_are_followed_but_not_in_circles(comfyui, tmp_path) -> None:
    """ComfyUI follows them."""
    folder, disk = comfyui / "models" / "restoration", tmp_path / "disk"
    disk.mkdir()
    torch.save(tiny.dape(), disk / "DAPE.pth")
    for link, target in ((folder / "linked", disk), (disk / "back", folder)):
        link.symlink_to(target, target_is_directory=True)
    assert rows(comfyui)["DAPE.pth"].paths == (str(folder / "linked" / "DAPE.pth"),)


def test_other_files_of_the_methods_are_named(comfyui, tmp_path) -> None:
    folder = comfyui / "models" / "restoration"
    tiny.write_release(folder / "any name", tiny.pasd_unet("pasd_light"), tiny.pasd_control())
    torch.save(tiny.dape(), folder / "lora.pth")
    (folder / "notes.txt").write_text("mine")
    (folder / "broken.pth").write_bytes(b"PK")
    torch.save(tiny.diffbir(), folder.parent / "controlnet" / "v1_face.pth")
    torch.save(tiny.diffbir(), folder.parent / "controlnet" / "somebody's.pth")
    tiny.write_release(tmp_path / "seesr", tiny.seesr_unet(), tiny.seesr_control())
    assert main(["convert", str(tmp_path / "seesr"), "-o", str(folder)]) == 0
    bins = {path.parent.name: str(path) for path in folder.rglob("*.bin")}
    found = [row for row in installed(model_folders(comfyui)) if not row.url]
    assert [row.name for row in found if row.problem] == ["broken.pth"]
    also = {row.paths[0]: row.what for row in found if not row.problem}
    assert also == {
        bins["unet"]: "PASD's light UNet, version pasd_light",
        bins["controlnet"]: "PASD's control network, version plain encoder, Stable Diffusion 1.x",
        str(folder / "lora.pth"): "SeeSR's DAPE, a LoRA for RAM, version DAPE",
        str(folder / "seesr.safetensors"): "a converted SeeSR file, version seesr",
        str(folder.parent / "controlnet" / "v1_face.pth"): (
            "DiffBIR's control network, version v1 face"
        ),
    }


def test_files_that_are_not_whole_or_something_else_say_so(comfyui) -> None:
    folder = comfyui / "models" / "restoration"
    unet = tiny.seesr_unet()
    unet.pop("conv_out.bias")
    tiny.write_release(folder / "seesr", unet, tiny.seesr_control(), "safetensors")
    (folder / "ram_tag_list.txt").write_text("a tag\n")
    torch.save({"a.lora_up.weight": torch.zeros(1)}, folder / "DAPE.pth")
    found = rows(comfyui)
    assert "is not whole" in found["seesr/unet/diffusion_pytorch_model.safetensors"].problem
    assert not found["seesr/controlnet/diffusion_pytorch_model.safetensors"].problem
    assert "sha256 differs" in found["ram_tag_list.txt"].problem
    assert "this is a LoRA" in found["DAPE.pth"].problem


YAML = """
mine:
    base_path: {base}
    restoration: weights/
    controlnet: |
        nets
        {elsewhere}
first:
    is_default: true
    upscale_models: up
    restoration: {elsewhere}
empty:
"""


def write_yaml(comfyui: Path, name: str = "extra_model_paths.yaml") -> Path:
    base, elsewhere = comfyui.parent / "base", comfyui.parent / "elsewhere"
    path = comfyui / name
    path.write_text(YAML.format(base=base, elsewhere=elsewhere))
    return path


def test_extra_model_paths_are_searched(comfyui) -> None:
    write_yaml(comfyui)
    place = comfyui.parent / "base" / "nets" / "v2.pth"
    place.parent.mkdir(parents=True)
    torch.save(tiny.diffbir(), place)
    assert rows(comfyui)["v2.pth"].paths == (str(place),)


@pytest.mark.host
def test_extra_model_paths_are_read_as_comfyui_reads_them(comfyui, comfy, monkeypatch) -> None:
    # By its file: other libraries have a `utils`, too.
    source = comfy.path / "utils" / "extra_config.py"
    spec = importlib.util.spec_from_file_location("extra_config", source)
    assert spec and spec.loader
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    for name in ("extra_model_paths.yaml", "more.yaml"):
        write_yaml(comfyui, name)
    extra = comfyui / "more.yaml"
    extra.write_text("x:\n    base_path: ../relative\n    restoration: a\n    checkpoints: b\n")
    paths = comfy.folder_paths
    fresh = copy.deepcopy(paths.folder_names_and_paths)
    for kind, names in DEFAULTS.items():
        fresh[kind] = ([str(comfyui / "models" / name) for name in names], set())
    monkeypatch.setattr(paths, "folder_names_and_paths", fresh)
    for config in (comfyui / "extra_model_paths.yaml", extra):
        theirs.load_extra_path_config(str(config))
    ours = model_folders(comfyui, extra=[extra])
    for kind in DEFAULTS:
        assert [str(folder) for folder in ours[kind]] == paths.get_folder_paths(kind), kind
    assert len(ours["restoration"]) == 4


def test_comfyui_is_found_where_tests_and_demo_find_it(comfyui, monkeypatch, tmp_path) -> None:
    (comfyui / "comfy").mkdir()
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui))
    assert model_folders(None) == model_folders(comfyui)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nothing"))
    with pytest.raises(CheckpointError, match="COMFYUI_PATH is"):
        model_folders(None)


def test_what_cannot_be_read_is_named(comfyui, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="holds no ComfyUI"):
        model_folders(tmp_path / "nothing")
    (comfyui / "extra_model_paths.yaml").write_text("- a list\n")
    with pytest.raises(CheckpointError, match="cannot be read as model paths"):
        model_folders(comfyui)


def test_the_models_folder_may_lie_elsewhere(comfyui, tmp_path) -> None:
    folders = model_folders(comfyui, tmp_path / "models")
    assert folders["controlnet"][0] == tmp_path / "models" / "controlnet"


def test_the_list_in_words_and_for_programs(comfyui, capsys) -> None:
    place = comfyui / "models" / "controlnet" / "v2.pth"
    torch.save(tiny.diffbir(), place)
    (place.parent / "DiffBIR_v2.1.pt").touch()
    assert main(["list", "--comfyui", str(comfyui)]) == 0
    said = capsys.readouterr().out
    assert f"  [x] v2.pth: DiffBIR's control network, version v2\n        {place}\n" in said
    assert (
        f"  [ ] BSRNet.pth\n        missing, 70 MB; {FILES['BSRNet.pth'][0]}\n        for diffbir_"
        in said
    )
    assert f"\n1 of {len(FILES)} files are there. Workflows:\n  [x] 1 Quick restore" in said
    for state in (
        "(quick_restore): needs no files",
        "(diffbir_v2_upscale): 6.8 GB, 5.3 GB missing (2 of 3 files)",
        "(pasd_upscale): 7.9 GB, 7.9 GB missing (3 of 3 files)",
        "(pasd_sdxl_upscale): 26.3 GB, ",
        "(seesr_upscale): 17.3 GB, ",
    ):
        assert state in said
    assert said.endswith("python -m tools get NAME fetches what a workflow lacks.\n")
    broken = place.with_name("DiffBIR_v2.1.pt")
    assert f"  [!] {broken.name}\n        {broken}\n        {broken.name} is empty" in said
    assert f"controlnet: {place.parent}, " in said
    assert main(["list", "--json", "--comfyui", str(comfyui)]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed["v2.pth"]["paths"] == [str(place)]
    assert main(["list", "--comfyui", str(comfyui / "nothing")]) == 1
