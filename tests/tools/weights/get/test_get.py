"""The commands `get` and `addresses`."""

from __future__ import annotations

import json
from collections import namedtuple
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from restoration import registry
from restoration.common.method import WeightFile
from restoration.common.state_dict import CheckpointError
from restoration.tests.tools.weights import tiny
from restoration.tests.tools.weights.get.file_server import Served, digest
from restoration.tools.comfyui.find import PACK_ROOT
from restoration.tools.commands import main
from restoration.tools.shipped import shipped
from restoration.tools.weights import choose
from restoration.tools.weights.get import plan as plan_module

V2 = urlsplit(registry.files()["v2.pth"].url).path


@pytest.fixture
def get(comfyui, server, monkeypatch, plainly):
    """Runs the command against the server in place of Hugging Face; its exit code."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    return lambda *words: main(["get", *words, "--comfyui", str(comfyui)])


def listed(comfyui: Path, capsys) -> dict[str, dict]:
    capsys.readouterr()
    assert main(["list", "--json", "--comfyui", str(comfyui)]) == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def test_what_it_has_fetched_list_finds(get, comfyui, server, weights, capsys) -> None:
    server.paths[V2] = Served(weights)
    assert get("v2.pth") == 0
    said = capsys.readouterr().out
    target = comfyui / "models" / "controlnet" / "v2.pth"
    assert f"to {target}" in said and digest(weights) in said
    row = listed(comfyui, capsys)["v2.pth"]
    assert (row["paths"], row["problem"]) == ([str(target)], "")
    asked = len(server.asked)
    assert get("v2.pth") == 0 and len(server.asked) == asked
    assert "1 of 1 file there; < 1 MB of 1.5 GB to fetch." in capsys.readouterr().out


def test_a_dry_run_asks_nobody_and_says_the_total(get, server, capsys) -> None:
    assert get("DiffBIR", "diffbir_v2_upscale.json", "--dry-run") == 0
    said = capsys.readouterr().out
    assert said.startswith("DiffBIR: 3 files, 6.8 GB\nNot among them: ")
    assert "Restore a photo with DiffBIR: 3 files, 6.8 GB" in said
    assert said.endswith("0 of 3 files there; 6.8 GB of 6.8 GB to fetch.\n")
    assert "withdrew it in November 2025" in said and not server.asked


def test_slim_says_that_a_base_stays_whole_where_one_is_to_come(get, capsys) -> None:
    for words, said in (
        (["seesr", "--slim"], True),
        (["seesr"], False),
        (["v2.pth", "--slim"], False),
    ):
        assert get(*words, "--dry-run") == 0
        assert ("Base checkpoints stay whole" in capsys.readouterr().out) == said


def test_it_goes_where_extra_model_paths_say_first(get, comfyui, server, weights) -> None:
    other = comfyui.parent / "other"
    text = f"x:\n  base_path: {other}\n  is_default: true\n  controlnet: nets\n"
    (comfyui / "extra_model_paths.yaml").write_text(text)
    server.paths[V2] = Served(weights)
    assert get("v2.pth") == 0
    assert (other / "nets" / "v2.pth").read_bytes() == weights


@pytest.mark.parametrize("slim", [False, True])
def test_two_files_of_one_name_lie_apart(get, comfyui, server, tmp_path, capsys, slim) -> None:
    release = "pasd/checkpoint-100000"
    tiny.write_release(tmp_path, tiny.pasd_unet(), tiny.pasd_control(), "safetensors")
    for part in ("unet", "controlnet"):
        name = f"{release}/{part}/diffusion_pytorch_model.safetensors"
        body = (tmp_path / part / "diffusion_pytorch_model.safetensors").read_bytes()
        server.paths[urlsplit(registry.files()[name].url).path] = Served(body)
    assert get(release, *(["--slim"] if slim else [])) == 0
    folder = comfyui / "models" / "restoration" / release
    for part in ("unet", "controlnet"):
        name = f"{part}/diffusion_pytorch_model.safetensors"
        row = listed(comfyui, capsys)[f"{release}/{name}"]
        assert (row["paths"], row["problem"]) == ([str(folder / name)], "")
        less = (folder / name).stat().st_size < (tmp_path / name).stat().st_size
        assert less == (slim and part == "unet")
    assert len(list(folder.rglob("*.*"))) == 2


def test_one_failure_does_not_keep_the_others_back(get, comfyui, server, weights, capsys) -> None:
    server.paths[V2] = Served(weights)
    assert get("DAPE.pth", "v2.pth") == 1
    assert (comfyui / "models" / "controlnet" / "v2.pth").exists()
    said = capsys.readouterr()
    assert "no such file any more (404)" in said.err and "1 file did not come." in said.err


def test_a_damaged_file_is_named_and_left_alone(get, comfyui, server, capsys) -> None:
    place = comfyui / "models" / "controlnet" / "v2.pth"
    place.write_text("<html>")
    assert get("v2.pth") == 1
    said = capsys.readouterr().out
    assert "it is a web page" in said and f"Move {place} away" in said
    assert place.read_text() == "<html>" and not server.asked


def test_disks_without_room_are_told_before_anything_is_fetched(
    get, server, capsys, monkeypatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(plan_module.shutil, "disk_usage", lambda path: usage(9, 9, 3 * 10**9))
    assert get("diffbir") == 1
    assert "has 3.0 GB free, and 6.8 GB are to come" in capsys.readouterr().err
    assert not server.asked


@pytest.mark.parametrize("method", [method.name for method in registry.methods()])
def test_the_usual_files_of_a_method_are_those_of_a_workflow(method) -> None:
    usual = {file.name for file in choose.usual_files()[method]}
    stated = next(each for each in registry.methods() if each.name == method).usual
    sets = [{file.name for file in choose.files_of(each)} for each in shipped()]
    assert not stated or usual in sets


def test_names_are_found_as_people_write_them() -> None:
    assert choose.chosen("PASD").title == "PASD"
    assert choose.chosen("Zero-Shot Guidance").title == "zero-shot guidance"
    assert [file.name for file in choose.chosen("BSRNet.pth").files] == ["BSRNet.pth"]
    assert len(choose.chosen("PASD-SDXL").files) == 2
    with pytest.raises(CheckpointError, match=r"is the name of \d+ files: pasd/checkpoint-100000/"):
        choose.chosen("diffusion_pytorch_model.safetensors")
    with pytest.raises(CheckpointError, match="Did you mean seesr"):
        choose.chosen("seesrr")


def test_an_address_that_is_none_is_refused(get, monkeypatch, capsys) -> None:
    assert get("v2.pth", "--mirror", "example.com") == 2
    assert "--mirror is 'example.com': expected an address" in capsys.readouterr().err


def test_addresses_says_which_are_alive(server, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    body = bytes(1_500_000)

    def file(name: str, sha256: str = "", size: int = 1_500_000) -> WeightFile:
        return WeightFile(
            name, f"https://huggingface.co/{quote(name)}", "controlnet", size, "", sha256
        )

    files = [
        file("there", digest(body)),
        file("half", size=3_000_000),
        file("other", "0" * 64),
        file("small", size=50_000_000),
        file("gone"),
        file("for GET alone"),
    ]
    server.paths = {f"/{name}": Served(body, sha256=True) for name in ("there", "half", "other")}
    server.paths["/for%20GET%20alone"] = Served(body, head=403)
    server.paths |= {"/small": Served(body), "/gone": Served(status=410)}
    monkeypatch.setattr(registry, "pages", lambda: (f"{server.url}/there", f"{server.url}/no"))
    monkeypatch.setattr(registry, "files", lambda: {each.name: each for each in files})
    assert main(["addresses"]) == 1
    said = capsys.readouterr().out
    assert [line[1] for line in said.splitlines() if line.startswith("[")] == list("xx!!!xx!")
    for words in ("another file: sha256", "about 50 MB", "withdrawn the file (410)", "4 of 8"):
        assert words in said
    assert {asked[2] for asked in server.asked if asked[0] == "GET"} == {"bytes=0-0"}


def test_the_page_tells_the_totals() -> None:
    page = (PACK_ROOT / "docs" / "weights.md").read_text("utf-8")
    for title, name in (
        ("PASD", "pasd"),
        ("DiffBIR", "diffbir"),
        ("SeeSR", "seesr"),
        ("PASD-SDXL with its base", "pasd_sdxl_upscale"),
    ):
        choice = choose.chosen(name)
        assert f"| {title} | {len(choice.files)} | {choice.total} |" in page
