"""The folder runner against a server that only pretends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restoration.tests.tools.fake_comfy import WORKFLOW, FakeComfy, negative
from restoration.tools import folder_runner
from restoration.tools.comfyui.client import Progress
from restoration.tools.comfyui.find import Host, HostError
from restoration.tools.comfyui.process import ComfyServer
from restoration.tools.commands import main


@pytest.fixture
def fake() -> Iterator[FakeComfy]:
    server = FakeComfy()
    yield server
    server.close()


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(WORKFLOW))
    return path


def photo(path: Path, color: int, size: tuple[int, int] = (24, 16)) -> Path:
    gradient = Image.linear_gradient("L").resize(size)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.merge("RGB", [gradient, gradient.rotate(180), Image.new("L", size, color)]).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        photo(tmp_path / "in" / name, 10 * number)
    return tmp_path / "in"


@pytest.fixture
def run(fake, workflow, tmp_path):
    """Runs the command on the fake; its exit code."""

    def call(*arguments: object, output: Path = tmp_path / "out") -> int:
        words = ["run", str(workflow), *map(str, arguments), "--server", fake.url]
        return main([*words, "--output", str(output)])

    return call


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


# What it does


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


# Which pictures


def test_hidden_files_are_not_taken_for_pictures(run, fake, photos) -> None:
    """macOS leaves ._a.png beside a.png on foreign disks."""
    (photos / "._a.png").write_bytes(b"\0\5\x16\7")
    photo(photos / ".trash" / "d.png", 99)
    assert run(photos, "--recursive") == 0
    assert len(fake.prompts) == 3


def test_patterns_and_files_and_deeper_folders(run, photos, tmp_path) -> None:
    photo(photos / "deep" / "d.png", 99)
    out = tmp_path / "out"
    assert run(photos / "[ab].png") == 0
    assert sorted(p.name for p in out.glob("*.png")) == ["a.png", "b.png"]
    assert run(photos) == 0
    assert not (out / "deep").exists() and (out / "c.png").exists()
    assert run(photos, "--recursive") == 0
    assert (out / "deep" / "d.png").exists()
    assert run(photos / "**" / "d.png", output=tmp_path / "flat") == 0
    assert (tmp_path / "flat" / "d.png").exists()


def test_results_inside_the_folder_are_not_taken_for_pictures(run, fake, photos) -> None:
    for _ in range(2):
        assert run(photos, "--recursive", output=photos / "restored") == 0
    assert len(fake.prompts) == 3


def test_equal_stems_do_not_overwrite_each_other(run, photos, tmp_path) -> None:
    photo(photos / "a.bmp", 200)
    assert run(photos) == 0
    names = sorted(p.name for p in (tmp_path / "out").glob("*.png"))
    assert names == ["a.bmp.png", "a.png.png", "b.png", "c.png"]


def test_two_folders_with_the_same_name_inside_are_refused(run, fake, photos, tmp_path, capsys):
    photo(tmp_path / "other" / "a.png", 1)
    assert run(photos, tmp_path / "other") == 2
    assert "would both become a.png" in capsys.readouterr().err and not fake.prompts


def test_no_pictures_is_an_error(run, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty") == 2
    assert "No pictures in" in capsys.readouterr().err
    assert run(tmp_path / "*.tga") == 2
    assert "matches none" in capsys.readouterr().err


# Resuming


def test_what_is_done_is_skipped_and_nothing_else(run, fake, photos, tmp_path, capsys) -> None:
    assert run(photos) == 0
    assert run(photos) == 0
    assert len(fake.prompts) == 3
    assert "0 done, 3 skipped, 0 failed" in capsys.readouterr().out
    photo(photos / "b.png", 77)  # another picture under the name
    (tmp_path / "out" / "c.png").unlink()  # its result is gone
    assert run(photos) == 0
    assert len(fake.prompts) == 5
    assert run(photos, "--again") == 0
    assert len(fake.prompts) == 8


@pytest.mark.parametrize(
    "arguments",
    [["--set", "2.strength=0.5"], ["--seed", "8"], ["--format", "jpg"], ["--format", "webp"]],
)
def test_other_settings_are_another_run(run, fake, photos, arguments) -> None:
    assert run(photos) == 0
    for _ in range(2):
        assert run(photos, *arguments) == 0
    assert len(fake.prompts) == 6


def test_another_workflow_is_another_run_but_titles_do_not_count(
    run, fake, photos, workflow
) -> None:
    assert run(photos) == 0
    prompt = json.loads(workflow.read_text())
    prompt["2"]["_meta"] = {"title": "New name"}
    prompt["1"]["inputs"]["image"] = "another example.png"
    workflow.write_text(json.dumps(prompt))
    assert run(photos) == 0
    assert len(fake.prompts) == 3
    prompt["2"]["inputs"]["strength"] = 0.25
    workflow.write_text(json.dumps(prompt))
    assert run(photos) == 0
    assert len(fake.prompts) == 6


def test_an_equal_picture_under_another_name_is_copied_not_run(run, fake, photos, tmp_path) -> None:
    assert run(photos) == 0
    shutil.copy(photos / "a.png", photos / "z.png")
    for _ in range(2):
        assert run(photos) == 0
    out = tmp_path / "out"
    assert len(fake.prompts) == 3
    assert (out / "z.png").read_bytes() == (out / "a.png").read_bytes()
    *_, last = made = records(out)
    assert len(made) == 4 and last["status"] == "done"
    assert Path(last["input"]).name == "z.png" and last["outputs"][0]["file"] == "z.png"
    assert last["notes"] == [f"copied, for {photos / 'a.png'} is equal"]
    (out / "z.png").unlink()  # a.png is still there
    assert run(photos / "a.png") == 0
    assert len(fake.prompts) == 3


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_result_that_another_run_has_replaced_is_made_again(run, fake, photos, tmp_path) -> None:
    """The first settings again: their result is done, but no longer there."""
    fake.restore = lambda image: [image.convert("RGB")]
    assert run(photos / "a.png") == 0
    first = pixels(tmp_path / "out" / "a.png")
    fake.restore = lambda image: [negative(image)]
    assert run(photos / "a.png", "--set", "strength=0.5") == 0
    fake.restore = lambda image: [image.convert("RGB")]
    assert run(photos / "a.png") == 0
    assert len(fake.prompts) == 3
    assert np.array_equal(pixels(tmp_path / "out" / "a.png"), first)


def test_a_picture_that_became_equal_to_another_gets_its_result(run, fake, photos, tmp_path):
    assert run(photos) == 0
    shutil.copy(photos / "a.png", photos / "b.png")
    assert run(photos) == 0
    out = tmp_path / "out"
    assert len(fake.prompts) == 3
    assert np.array_equal(pixels(out / "b.png"), pixels(out / "a.png"))


def test_after_an_interrupt_the_next_run_goes_on(run, fake, photos, tmp_path, capsys) -> None:
    def stop(prompt, image):
        if len(fake.prompts) == 2:
            raise KeyboardInterrupt

    real = folder_runner.process

    def interrupted(*arguments):
        stop(None, None)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_runner, "process", interrupted)
        assert run(photos) == 130
    assert [record["status"] for record in records(tmp_path / "out")] == ["done", "done"]
    assert run(photos) == 0
    assert len(fake.prompts) == 3


def test_an_interrupt_stops_the_picture_on_the_server(run, fake, photos, monkeypatch) -> None:
    fake.finishes = False

    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "get", lambda path: FakeComfy.get(fake, path))
    from restoration.tools.comfyui.client import ComfyClient

    monkeypatch.setattr(ComfyClient, "check_alive", interrupted)
    assert run(photos) == 130
    assert ("/queue", {"delete": ["p1"]}) in fake.requests
    assert ("/interrupt", {"prompt_id": "p1"}) in fake.requests


def test_a_line_cut_off_by_a_crash_is_dropped(run, fake, photos, tmp_path) -> None:
    assert run(photos) == 0
    path = tmp_path / "out" / "manifest.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:50])
    assert run(photos) == 0
    assert len(fake.prompts) == 4
    assert [Path(record["input"]).name for record in records(tmp_path / "out")] == [
        "a.png",
        "b.png",
        "c.png",
    ]


def test_a_manifest_that_is_something_else_is_not_touched(run, fake, photos, tmp_path, capsys):
    path = tmp_path / "out" / "manifest.jsonl"
    path.parent.mkdir()
    path.write_text("my own notes\n")
    assert run(photos) == 2
    assert "Line 1 of" in capsys.readouterr().err and path.read_text() == "my own notes\n"


def test_what_is_done_is_written_down_when_nobody_reads_on(fake, workflow, photos, tmp_path):
    """As `tools run ... | head` does; the first line of all finds the pipe closed."""
    tools = Path(__file__).parent.parent.parent / "tools"
    words = ["run", str(workflow), str(photos), "-o", str(tmp_path / "out"), "--server", fake.url]
    process = subprocess.Popen(
        [sys.executable, str(tools), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1 and not said
    assert [record["status"] for record in records(tmp_path / "out")] == ["done"]
    assert main(words) == 0
    assert len(fake.prompts) == 3


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


@pytest.mark.parametrize("text", ["no json", '{"nodes": [], "links": []}', "[1]"])
def test_a_workflow_in_another_form_is_refused(run, photos, workflow, capsys, text) -> None:
    workflow.write_text(text)
    assert run(photos) == 2
    assert "is no workflow in API form" in capsys.readouterr().err


# A server of our own


class Dying:
    """A ComfyUI of our own that does not answer until it is started again."""

    url = "http://127.0.0.1:9"

    def __init__(self, cures: bool) -> None:
        self.cures, self.alive, self.starts = cures, False, 0

    def get_json(self, path, timeout):
        if not self.alive:
            raise ConnectionRefusedError("nobody there")
        return {"system": {"comfyui_version": "1.0"}}

    def close(self) -> None:
        self.alive = False

    def __enter__(self):
        self.starts += 1
        self.alive = self.cures


def test_a_server_of_our_own_is_started_again_but_not_for_ever() -> None:
    own = Dying(cures=True)
    server = folder_runner.Server(own, own)  # type: ignore[arg-type]
    server.recover()
    assert own.starts == 1 and server.version() == "1.0"
    own.alive = False
    with pytest.raises(HostError):
        server.recover()  # the second crash without a success
    own.alive = True
    server.succeeded()
    own.alive = False
    server.recover()
    assert own.starts == 2


def test_a_server_of_our_own_uses_the_models_and_nodes_of_its_comfyui(tmp_path) -> None:
    for folder in ("models/checkpoints", "models/restoration", "custom_nodes/other"):
        (tmp_path / folder).mkdir(parents=True)
    paths = folder_runner._model_paths(tmp_path)["comfyui"]
    assert paths == {
        "base_path": str(tmp_path),
        "checkpoints": "models/checkpoints",
        "restoration": "models/restoration",
        "custom_nodes": "custom_nodes",
    }
    assert not folder_runner._holds_pack(tmp_path)
    (tmp_path / "custom_nodes" / "any-name").symlink_to(folder_runner.PACK_ROOT)
    assert folder_runner._holds_pack(tmp_path)


class Stopping:
    """A process that ends at the first signal it takes, by the rules of an operating system."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def poll(self) -> int | None:
        return 1 if self.signals else None

    def send_signal(self, number: int) -> None:
        if sys.platform == "win32" and number == signal.SIGINT:
            raise ValueError("Unsupported signal: 2")
        self.signals.append(number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout: float) -> None:
        pass


@pytest.mark.parametrize(
    ("system", "number"), [("linux", signal.SIGINT), ("win32", signal.SIGTERM)]
)
def test_a_server_is_stopped_by_a_signal_that_its_system_has(
    tmp_path, monkeypatch, system, number
) -> None:
    own = ComfyServer(host=Host(tmp_path, "1.0", "test"))
    own.base, process = tmp_path / "base", Stopping()
    own._process = process  # type: ignore[assignment]
    monkeypatch.setattr(sys, "platform", system)
    own.close()
    assert process.signals == [number]


def test_the_watcher_hears_of_an_end_that_fails(tmp_path, monkeypatch) -> None:
    """Else it would take this process for killed, and signal a number that may be another's."""
    said = []
    watch = type("Watch", (), {"communicate": lambda self, words: said.append(words)})

    def broken(self) -> None:
        raise OSError("no such process")

    own = folder_runner.OwnServer(host=Host(tmp_path, "1.0", "test"))
    own._watch = watch()
    monkeypatch.setattr(ComfyServer, "close", broken)
    with contextlib.suppress(OSError):
        own.close()
    assert said == [b"closed"]


# On a terminal


def test_on_a_terminal_there_is_a_bar_with_the_node_at_work(run, photos, monkeypatch, capsys):
    monkeypatch.setattr(folder_runner.sys.stderr, "isatty", lambda: True, raising=False)
    seen = []
    real = folder_runner.Display.step

    def step(self, progress):
        real(self, progress)
        seen.append(self._bar.postfix)

    def run_with_progress(path, sha, name, job, server, saving, progress, timeout):
        progress(Progress("2", 3, 20))
        return process(path, sha, name, job, server, saving, progress, timeout)

    process = folder_runner.process
    monkeypatch.setattr(folder_runner.Display, "step", step)
    monkeypatch.setattr(folder_runner, "process", run_with_progress)
    assert run(photos) == 0
    assert "Negative 3/20" in seen
    assert "3/3" in capsys.readouterr().err
