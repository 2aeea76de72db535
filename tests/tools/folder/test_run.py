"""The folder runner against a server that only pretends."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restoration.tests.tools.folder.fake_comfy import FakeComfy, negative
from restoration.tests.tools.folder.helpers import photo, records
from restoration.tools.comfyui.client import Progress
from restoration.tools.commands import main
from restoration.tools.folder import display, execute, server
from restoration.tools.folder import work as working
from restoration.tools.folder.workflow import workflow_file
from restoration.tools.shipped import WORKFLOWS


def test_every_picture_of_a_folder_is_restored_and_written_down(run, fake, photos, tmp_path):
    (photos / "notes.txt").write_text("no picture")
    assert run(photos) == 0
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.png", "c.png", "manifest.jsonl"]
    for name in ("a.png", "b.png", "c.png"):
        expected = negative(Image.open(photos / name))
        assert np.array_equal(np.asarray(Image.open(out / name)), np.asarray(expected))
    first = records(out)[0]
    data = (photos / "a.png").read_bytes()
    assert first["input"] == str(photos / "a.png") and first["status"] == "done"
    assert first["input_sha256"] == hashlib.sha256(data).hexdigest()
    assert first["seed"] == {"2.seed": 7} and first["comfyui"] == "0.0.0"
    assert first["workflow"] == "workflow.json" and first["seconds"] >= 0
    assert first["metrics"]["input_size"] == [24, 16]
    (made,) = first["outputs"]
    assert (made["file"], made["width"], made["height"]) == ("a.png", 24, 16)
    assert made["sha256"] == hashlib.sha256((out / "a.png").read_bytes()).hexdigest()
    assert len({record["workflow_sha256"] for record in records(out)}) == 1


def test_settings_and_seed_reach_the_server_and_the_manifest(run, fake, photos, tmp_path) -> None:
    settings = ("--set", "2.strength=0.5", "--set", "Negative.mode=some", "--set", "2.steps=4")
    assert run(photos / "a.png", *settings, "--seed", 123) == 0
    sent = fake.prompts[0]["2"]["inputs"]
    assert sent == {"image": ["1", 0], "strength": 0.5, "steps": 4, "mode": "some", "seed": 123}
    (record,) = records(tmp_path / "out")
    expected = {"2.strength": 0.5, "2.mode": "some", "2.steps": 4, "2.seed": 123}
    assert expected.items() <= record["settings"].items()
    assert record["seed"] == {"2.seed": 123}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "strength=NaN"], "is of another kind"),
        (["--set", "strength=-Infinity"], "is of another kind"),
        (["--set", "9.x=1"], "has no node '9'"),
        (["--set", "2.x=1"], "has no 'x'; it has image, strength"),
        (["--set", "2.image=1"], "comes from another node"),
        (["--set", "2.strength=much"], "is of another kind"),
        (["--set", "2.steps=true"], "is of another kind"),
        (["--set", "strength"], "write NODE.INPUT=VALUE"),
        (["--set", "2.=1"], "write NODE.INPUT=VALUE"),
        (["--set", "strenght=1"], "No node has a value 'strenght'; there are filename_prefix, "),
        (["--set", "strength=0,5"], "'0,5' is of another kind"),
        (["--set", "1.image=a.png"], "takes the pictures of the folder"),
        (["--input-node", "2x"], "has no node '2x'"),
        (["--input-node", "3"], "has no input `image`"),
    ],
)
def test_wrong_settings_are_explained_before_anything_runs(
    run, fake, photos, capsys, arguments, words
):
    assert run(photos, *arguments) == 2
    assert words in capsys.readouterr().err
    assert not fake.prompts


def test_a_value_that_only_one_node_has_needs_no_node(run, fake, photos, workflow, capsys) -> None:
    assert run(photos / "a.png", "--set", "strength=0.5") == 0
    assert fake.prompts[0]["2"]["inputs"]["strength"] == 0.5
    prompt = json.loads(workflow.read_text())
    prompt["4"] = {
        "class_type": "Negative",
        "inputs": {"strength": 1.0},
        "_meta": {"title": "Dial"},
    }
    # Only a link: the value is the dial's.
    prompt["5"] = {"class_type": "Negative", "inputs": {"strength": ["4", 0], "steps": 4}}
    workflow.write_text(json.dumps(prompt))
    assert run(photos / "a.png", "--set", "strength=0.25") == 2
    said = capsys.readouterr().err
    assert "'strength' is a value of 2 (Negative), 4 (Dial): say which, as 2.strength=..." in said
    assert run(photos / "a.png", "--set", "Dial.strength=0.25") == 0
    assert fake.prompts[1]["4"]["inputs"]["strength"] == 0.25


def test_fidelity_is_that_of_the_one_dial(run, fake, photos, workflow, capsys) -> None:
    """Other nodes have a value of that name, too, where the dial does not turn it."""
    prompt = json.loads(workflow.read_text())
    prompt["2"]["inputs"]["fidelity"] = 0.5
    prompt["4"] = {"class_type": "RestorationFidelity", "inputs": {"fidelity": 0.5}}
    workflow.write_text(json.dumps(prompt))
    fake.nodes.add("RestorationFidelity")
    assert run(photos / "a.png", "--set", "fidelity=0.8") == 0
    sent = fake.prompts[0]
    assert (sent["2"]["inputs"]["fidelity"], sent["4"]["inputs"]["fidelity"]) == (0.5, 0.8)
    prompt["5"] = prompt["4"]
    workflow.write_text(json.dumps(prompt))
    assert run(photos / "a.png", "--set", "fidelity=0.8") == 2
    assert "'fidelity' is a value of 2 (Negative), 4 (Rest" in capsys.readouterr().err


def test_what_nodes_say_is_written_down(run, fake, photos, tmp_path, monkeypatch) -> None:
    real = FakeComfy.post

    def post(self, path, data):
        answer = real(self, path, data)
        if path == "/prompt":
            self._history["p1"]["outputs"]["4"] = {"text": ["PSNR 30.10, SSIM 0.9000"]}
        return answer

    monkeypatch.setattr(FakeComfy, "post", post)
    assert run(photos / "a.png") == 0
    assert records(tmp_path / "out")[0]["metrics"]["texts"] == {"4": "PSNR 30.10, SSIM 0.9000"}


def test_transparency_comes_back_or_is_said_to_be_lost(run, photos, tmp_path) -> None:
    image = Image.open(photos / "a.png")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(photos / "a.png")
    assert run(photos / "a.png") == 0
    assert Image.open(tmp_path / "out" / "a.png").mode == "RGBA"
    assert run(photos / "a.png", "--format", "jpg") == 0
    kept, lost = records(tmp_path / "out")
    assert kept["kept"] == ["alpha"] and not kept["notes"]
    assert not lost["kept"] and lost["notes"] == ["transparency lost: JPEG has none"]


@pytest.mark.parametrize("opaque", ["L", "RGBA"])
def test_transparency_is_called_kept_only_where_it_was_put_back(
    run, fake, photos, tmp_path, opaque
) -> None:
    image = Image.open(photos / "a.png")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(photos / "a.png")
    half = Image.new("RGBA", image.size, (0, 0, 0, 77))
    for result in (image.convert("RGB").convert(opaque), half):
        fake.restore = lambda photo, result=result: [result]
        assert run(photos / "a.png", "--again") == 0
        alpha = Image.open(tmp_path / "out" / "a.png").getchannel("A")
        expected = half if result is half else image
        assert np.array_equal(np.asarray(alpha), np.asarray(expected.getchannel("A")))
    put_back, own = records(tmp_path / "out")
    assert put_back["kept"] == ["alpha"] and not put_back["notes"]
    assert not own["kept"]
    assert own["notes"] == ["transparency of the photo lost: the result has its own"]


def test_the_address_of_a_server_needs_no_scheme(fake, workflow, photos, tmp_path) -> None:
    words = ["run", str(workflow), str(photos / "a.png"), "-o", str(tmp_path / "out")]
    assert main([*words, "--server", fake.url.removeprefix("http://")]) == 0


def test_an_output_that_is_a_file_is_refused_before_anything_starts(
    run, fake, photos, workflow, capsys
) -> None:
    assert run(photos, output=workflow) == 2
    assert "is a file: --output names a folder" in capsys.readouterr().err and not fake.prompts


def test_a_seed_without_a_place_for_it_is_an_error(run, photos, workflow, capsys) -> None:
    prompt = json.loads(workflow.read_text())
    del prompt["2"]["inputs"]["seed"]
    workflow.write_text(json.dumps(prompt))
    assert run(photos, "--seed", 1) == 2
    assert "has no seed to set" in capsys.readouterr().err


def test_of_several_load_image_nodes_one_must_be_named(run, fake, photos, workflow, capsys) -> None:
    prompt = json.loads(workflow.read_text())
    prompt["5"] = {"class_type": "LoadImage", "inputs": {"image": "style.png"}}
    workflow.write_text(json.dumps(prompt))
    assert run(photos) == 2
    assert "1 (Photo), 5 (LoadImage). Say with --input-node" in capsys.readouterr().err
    assert run(photos, "--input-node", "Photo") == 0
    assert fake.prompts[0]["5"]["inputs"]["image"] == "style.png"


def test_several_results_of_one_picture_are_numbered(run, fake, photos, tmp_path) -> None:
    fake.restore = lambda image: [negative(image), image.convert("RGB")]
    assert run(photos / "a.png") == 0
    out = tmp_path / "out"
    assert sorted(p.name for p in out.glob("*.png")) == ["a_1.png", "a_2.png"]
    second = np.asarray(Image.open(out / "a_2.png"))
    assert np.array_equal(second, np.asarray(Image.open(photos / "a.png")))
    assert records(out)[0]["metrics"]["lr_psnr"] is None
    shutil.copy(photos / "a.png", photos / "z.png")
    assert run(photos / "z.png") == 0
    assert len(fake.prompts) == 1 and np.array_equal(
        np.asarray(Image.open(out / "z_2.png")), second
    )


def test_results_may_keep_the_format_of_the_photo(run, photos, tmp_path) -> None:
    for name in ("d.jpeg", "e.webp", "f.bmp"):
        photo(photos / name, 50)
    assert run(photos, "--format", "same") == 0
    made = sorted(p.name for p in (tmp_path / "out").iterdir() if p.suffix != ".jsonl")
    assert made == ["a.png", "b.png", "c.png", "d.jpg", "e.webp", "f.png"]
    for name, kind in (("d.jpg", "JPEG"), ("e.webp", "WEBP"), ("f.png", "PNG")):
        assert Image.open(tmp_path / "out" / name).format == kind


# Errors


def test_an_error_of_one_picture_does_not_stop_the_others(run, fake, photos, tmp_path, capsys):
    fake.refuse = lambda prompt, image: "too dark" if image.getpixel((0, 0))[2] == 10 else None
    (photos / "broken.png").write_text("no picture")
    assert run(photos) == 1
    states = {Path(r["input"]).name: r for r in records(tmp_path / "out")}
    assert [states[n]["status"] for n in ("a.png", "b.png", "c.png")] == ["done", "failed", "done"]
    assert states["b.png"]["error"] == "Negative (node 2) failed: too dark"
    assert states["broken.png"]["error"] == "broken.png is no picture that can be read"
    assert "2 done, 0 skipped, 2 failed" in capsys.readouterr().out
    fake.refuse = lambda prompt, image: None
    (photos / "broken.png").unlink()
    assert run(photos) == 0
    assert len(fake.prompts) == 4  # only the failed one again


class Odd(Exception):
    """An error of a library that has its own."""


@pytest.mark.parametrize(
    "error",
    [TypeError("a"), AttributeError("b"), RuntimeError("c"), KeyError("d"), struct.error("e"),
     MemoryError(), RecursionError("f"), Odd("g"), UnicodeEncodeError("utf-8", "h", 0, 1, "i")],
)  # fmt: skip
@pytest.mark.parametrize("place", ["read_picture", "save_picture", "lr_psnr"])
def test_whatever_a_picture_raises_is_its_own_failure(
    run, fake, photos, tmp_path, capsys, monkeypatch, place, error
) -> None:
    real, calls = getattr(working, place), []

    def odd(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise error
        return real(*arguments)

    monkeypatch.setattr(working, place, odd)
    assert run(photos) == 1
    made = records(tmp_path / "out")
    assert [record["status"] for record in made] == ["done", "failed", "done"]
    assert Path(made[1]["input"]).name == "b.png" and made[1]["error"]
    assert "2 done, 0 skipped, 1 failed" in capsys.readouterr().out
    assert run(photos) == 0


def refusal(node: str, name: str) -> dict:
    error = {"message": "Value not in list", "details": "v2.pth"}
    return {"node_errors": {node: {"class_type": name, "errors": [error]}}}


def test_a_picture_that_the_server_refuses_does_not_stop_the_others(run, fake, photos, tmp_path):
    fake.refuse = lambda prompt, image: refusal("1", "LoadImage")
    assert run(photos) == 1
    made = records(tmp_path / "out")
    assert len(made) == 3
    assert "LoadImage (node 1): Value not in list v2.pth" in made[0]["error"]


def test_a_workflow_that_the_server_refuses_is_not_tried_with_every_picture(
    run, fake, photos, tmp_path, capsys
) -> None:
    """A model that is not installed, a value out of range: no picture changes that."""
    fake.refuse = lambda prompt, image: refusal("2", "Negative")
    assert run(photos) == 2
    said = capsys.readouterr().err
    assert "Negative (node 2): Value not in list v2.pth. It would refuse every picture" in said
    assert [record["status"] for record in records(tmp_path / "out")] == ["failed"]


def test_a_workflow_without_a_saved_image_is_an_error(run, fake, photos, tmp_path) -> None:
    fake.restore = lambda image: []
    assert run(photos / "a.png") == 1
    assert "needs a Save Image node" in records(tmp_path / "out")[0]["error"]


def test_a_lost_connection_is_an_error_of_the_picture(run, fake, photos, tmp_path) -> None:
    fake.refuse = lambda prompt, image: "vanish" if len(fake.prompts) == 1 else None
    assert run(photos) == 1
    assert [r["status"] for r in records(tmp_path / "out")] == ["failed", "done", "done"]


def test_a_server_that_is_gone_stops_the_run(run, fake, photos, tmp_path, capsys) -> None:
    def vanish(prompt, image):
        if len(fake.prompts) == 2:
            fake.get = lambda path: (b"", 500)
            return "vanish"
        return None

    fake.refuse = vanish
    assert run(photos) == 2
    said = capsys.readouterr().err
    assert "No ComfyUI answers at" in said and "1 done, 0 skipped, 1 failed" in said
    assert len(records(tmp_path / "out")) == 2


def test_no_server_is_a_sentence(workflow, photos, tmp_path, capsys) -> None:
    words = ["run", str(workflow), str(photos), "-o", str(tmp_path / "out")]
    assert main([*words, "--server", "http://127.0.0.1:9"]) == 2
    assert "No ComfyUI answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert main([*words, "--comfyui", str(tmp_path)]) == 2
    assert "holds no ComfyUI" in capsys.readouterr().err


def test_unknown_nodes_stop_before_the_first_picture(run, fake, photos, capsys) -> None:
    fake.nodes.remove("Negative")
    assert run(photos) == 2
    assert "does not know Negative" in capsys.readouterr().err and not fake.prompts


def test_a_picture_that_takes_too_long_is_cancelled(run, fake, photos, tmp_path) -> None:
    fake.finishes = False
    assert run(photos / "a.png", "--timeout", "0.3") == 1
    assert "did not finish the workflow in time" in records(tmp_path / "out")[0]["error"]
    assert ("/interrupt", {"prompt_id": "p1"}) in fake.requests


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        '{"nodes": [], "links": []}',
        "[1]",
        '{"1": {"class_type": "LoadImage"}}',
        "[" * 9999,
    ],
)
def test_a_workflow_in_another_form_is_refused(run, photos, workflow, capsys, text) -> None:
    workflow.write_text(text)
    assert run(photos) == 2
    assert "is no workflow in API form" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["quick_restore", "Quick-Restore.json", "1 Quick restore, nothing to download"]
)
def test_shipped_workflows_go_by_their_names(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert workflow_file(name).parts[-2:] == ("api", "quick_restore.json")
    (tmp_path / name).write_text("{}")
    assert workflow_file(name) == Path(name)  # the user's own goes before


def test_the_form_for_people_of_a_shipped_workflow_stands_for_the_other() -> None:
    (people,) = WORKFLOWS.glob("1 Quick*.json")
    assert workflow_file(str(people)).parts[-2:] == ("api", "quick_restore.json")


def test_a_workflow_that_is_none_gets_names_like_it(photos, tmp_path, capsys) -> None:
    assert main(["run", "quick_restor", str(photos), "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "There is no workflow quick_restor, neither" in said and "quick_restore" in said


def test_without_an_address_the_usual_one_is_asked(fake, workflow, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "USUAL", fake.url)
    assert main(["run", str(workflow), str(photos / "a.png"), "-o", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("new", [False, True], ids=["older nodes", "V3 nodes"])
def test_missing_files_are_named_with_what_fetches_them(
    run, fake, photos, workflow, capsys, new
) -> None:
    prompt = json.loads(workflow.read_text())
    release = "pasd/checkpoint-100000/unet/diffusion_pytorch_model.safetensors"
    prompt["2"]["inputs"] |= {"net": "v2.pth", "ckpt": "mine.pth", "unet": release}
    workflow.write_text(json.dumps(prompt))

    def offered(*names: str) -> list:
        return ["COMBO", {"options": list(names)}] if new else [list(names)]

    inputs = {
        "net": offered("other"),
        "ckpt": offered(),
        "unet": offered(release.replace("/", "\\")),
    }
    fake.inputs["Negative"] = {"input": {"required": inputs}}
    assert run(photos) == 2 and not fake.prompts
    said = capsys.readouterr().err
    assert "The server has no v2.pth. Where ComfyUI runs, python -m tools get v2.pth" in said
    assert "mine.pth" not in said and "pasd" not in said
    inputs["net"] = offered("nets/v2.safetensors")
    assert run(photos) == 2 and not fake.prompts
    said = capsys.readouterr().err
    assert "has nets/v2.safetensors in place of v2.pth: add --set 2.net=nets/v2.saf" in said
    assert run(photos, "--set", "2.net=nets/v2.safetensors") == 0


# On a terminal


def test_on_a_terminal_there_is_a_bar_with_the_node_at_work(run, photos, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    seen = []
    real = display.Display.step

    def step(self, progress):
        real(self, progress)
        seen.append(self._bar.postfix)

    def run_with_progress(task, server, progress):
        progress(Progress("2", 3, 20))
        return work(task, server, progress)

    work = execute.work
    monkeypatch.setattr(display.Display, "step", step)
    monkeypatch.setattr(execute, "work", run_with_progress)
    assert run(photos) == 0
    assert "Negative 3/20" in seen
    said = capsys.readouterr()
    assert "3/3" in said.err
    lines = [line for line in (said.out + said.err).splitlines() if "a.png: a.png (" in line]
    assert len(lines) == 1 and lines[0].lstrip("\r").startswith("[1/3] ")
