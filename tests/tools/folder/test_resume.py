"""What a second run does and does not do again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restoration.tests.tools.folder.fake_comfy import FakeComfy, negative
from restoration.tests.tools.folder.helpers import files, photo, pixels, records
from restoration.tools.comfyui.client import ComfyClient
from restoration.tools.commands import main
from restoration.tools.folder import execute
from restoration.tools.folder import output as outputs
from restoration.tools.folder import work as working
from restoration.tools.folder.pictures import read_picture


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

    real = execute.work

    def interrupted(*arguments):
        stop(None, None)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "work", interrupted)
        assert run(photos) == 130
    assert [record["status"] for record in records(tmp_path / "out")] == ["done", "done"]
    assert run(photos) == 0
    assert len(fake.prompts) == 3


def test_an_interrupt_stops_the_picture_on_the_server(run, fake, photos, monkeypatch) -> None:
    fake.finishes = False

    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(fake, "get", lambda path: FakeComfy.get(fake, path))
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


@pytest.mark.parametrize("notes", ["my own notes\n", "my own notes", '{"mine": 1}\n', '{"mine"'])
def test_a_manifest_that_is_something_else_is_not_touched(
    run, fake, photos, tmp_path, capsys, notes
) -> None:
    path = tmp_path / "out" / "manifest.jsonl"
    path.parent.mkdir()
    path.write_text(notes)
    assert run(photos) == 2
    assert "Line 1 of" in capsys.readouterr().err and path.read_text() == notes


def test_what_is_done_is_written_down_when_nobody_reads_on(fake, workflow, photos, tmp_path):
    """As `tools run ... | head` does; the first line of all finds the pipe closed."""
    tools = Path(__file__).parents[3] / "tools"
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


# What became of results since


@pytest.mark.parametrize("damage", ["half", "end", "empty", "text", "missing"])
def test_a_result_that_is_no_picture_any_more_is_done_again(
    run, fake, photos, tmp_path, damage
) -> None:
    assert run(photos) == 0
    result = tmp_path / "out" / "b.png"
    good = result.read_bytes()
    damaged = {
        "half": good[: len(good) // 2],
        "end": good[:-30],  # its beginning still says what it is
        "empty": b"",
        "text": b"no picture",
    }
    result.unlink()
    if damage in damaged:
        result.write_bytes(damaged[damage])
    assert run(photos) == 0
    assert len(fake.prompts) == 4 and result.read_bytes() == good


@pytest.mark.parametrize("arguments", [(), ("--set", "2.strength=0.5")])
def test_a_result_that_its_owner_changed_is_kept_and_reported(
    run, fake, photos, tmp_path, capsys, arguments
) -> None:
    assert run(photos) == 0
    result = photo(tmp_path / "out" / "b.png", 200)
    mine = result.read_bytes()
    for _ in range(2):
        assert run(photos, *arguments) == 0
        said = capsys.readouterr().out
        assert "b.png: kept, b.png was changed since it was made (--again replaces it)" in said
        assert "0 failed, 1 kept as changed since" in said
    assert result.read_bytes() == mine and len(fake.prompts) == (5 if arguments else 3)
    assert run(photos, "--again") == 0
    assert result.read_bytes() != mine


def test_a_result_that_is_changed_while_it_runs_is_kept(run, fake, photos, tmp_path) -> None:
    assert run(photos) == 0
    fake.restore = lambda image: [image.convert("RGB")]
    fake.refuse = lambda prompt, image: photo(tmp_path / "out" / "a.png", 200) and None
    assert run(photos / "a.png", "--set", "2.strength=0.5") == 1
    assert "was changed since it was made" in records(tmp_path / "out")[-1]["error"]
    assert pixels(tmp_path / "out" / "a.png")[0, 0, 2] == 200


def test_of_several_results_a_changed_one_keeps_all(run, fake, photos, tmp_path) -> None:
    fake.restore = lambda image: [negative(image)] * 2
    assert run(photos / "a.png") == 0
    photo(tmp_path / "out" / "a_1.png", 200)
    (tmp_path / "out" / "a_2.png").unlink()
    assert run(photos / "a.png") == 0
    assert len(fake.prompts) == 1 and pixels(tmp_path / "out" / "a_1.png")[0, 0, 2] == 200


def test_a_changed_result_is_not_copied_for_an_equal_picture(run, fake, photos, tmp_path) -> None:
    assert run(photos) == 0
    photo(tmp_path / "out" / "a.png", 200)
    shutil.copy(photos / "a.png", photos / "z.png")
    assert run(photos) == 0
    assert len(fake.prompts) == 4
    assert np.array_equal(
        pixels(tmp_path / "out" / "z.png"), np.asarray(negative(Image.open(photos / "z.png")))
    )


# Equal pictures


def test_notes_on_equal_pictures_do_not_pile_up(run, fake, photos, tmp_path) -> None:
    for number in range(4):
        shutil.copy(photos / "a.png", photos / f"z{number}.png")
        assert run(photos) == 0
    assert len(fake.prompts) == 3
    copies = records(tmp_path / "out")[3:]
    assert [len(record["notes"]) for record in copies] == [1] * 4
    assert all("is equal" in record["notes"][0] for record in copies)


def test_equal_pictures_of_one_run_are_restored_once(run, fake, photos, tmp_path) -> None:
    for number in range(3):
        shutil.copy(photos / "a.png", photos / f"z{number}.png")
    assert run(photos) == 0
    assert len(fake.prompts) == 3 and len(records(tmp_path / "out")) == 6
    assert pixels(tmp_path / "out" / "z2.png")[0, 0, 2] == 255


def test_where_the_first_of_equal_pictures_fails_the_next_one_tries(
    run, fake, photos, tmp_path
) -> None:
    shutil.copy(photos / "a.png", photos / "z.png")
    fake.refuse = lambda prompt, image: "too dark" if len(fake.prompts) == 1 else None
    assert run(photos) == 1
    states = {Path(r["input"]).name: r["status"] for r in records(tmp_path / "out")}
    assert states == {"a.png": "failed", "b.png": "done", "c.png": "done", "z.png": "done"}
    assert run(photos) == 0
    assert len(fake.prompts) == 4


# While it runs


def test_a_folder_that_changes_while_it_runs(run, fake, photos, tmp_path) -> None:
    def change(prompt, image):
        if len(fake.prompts) == 1:
            (photos / "b.png").unlink()
            photo(photos / "c.png", 150)
            photo(photos / "d.png", 160)

    fake.refuse = change
    assert run(photos) == 1
    states = [(Path(r["input"]).name, r["status"]) for r in records(tmp_path / "out")]
    assert states == [("a.png", "done"), ("b.png", "failed"), ("c.png", "done")]
    assert "No such file" in records(tmp_path / "out")[1]["error"]
    assert pixels(tmp_path / "out" / "c.png")[0, 0, 2] == 255 - 150
    assert run(photos) == 0  # c.png was written down as what was sent
    assert len(fake.prompts) == 3 and (tmp_path / "out" / "d.png").exists()


def test_a_photo_that_is_written_while_it_is_read_is_done_next_time(
    run, fake, photos, tmp_path, monkeypatch
) -> None:
    def read(path: Path):
        picture = read_picture(path)
        if path.name == "b.png":
            photo(path, 150)
        return picture

    monkeypatch.setattr(working, "read_picture", read)
    assert run(photos) == 1
    assert records(tmp_path / "out")[1]["error"].startswith("b.png changed while it was read")
    monkeypatch.undo()
    assert run(photos) == 0
    assert pixels(tmp_path / "out" / "b.png")[0, 0, 2] == 255 - 150


def test_a_clock_that_goes_back_changes_nothing(run, fake, photos, tmp_path, monkeypatch) -> None:
    class Back(datetime):
        hours = 0

        @classmethod
        def now(cls, tz=None):
            cls.hours -= 5
            return datetime(2026, 1, 1, tzinfo=tz) + timedelta(hours=cls.hours)

    ticking = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(outputs, "datetime", Back)
    monkeypatch.setattr(time, "time", lambda: float(next(ticking)))
    for _ in range(2):
        assert run(photos) == 0
    made = records(tmp_path / "out")
    assert len(fake.prompts) == len(made) == 3
    assert [r["finished"] for r in made] == sorted((r["finished"] for r in made), reverse=True)
    assert all(0 <= record["seconds"] < 60 for record in made)


# The output folder


def test_a_second_run_on_one_output_is_told_of_the_first(
    run, fake, photos, tmp_path, capsys
) -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def wait(prompt, image):
        at_work.set()
        go_on.wait(20)

    fake.refuse = wait
    codes: list[int] = []
    first = threading.Thread(target=lambda: codes.append(run(photos)))
    first.start()
    assert at_work.wait(20)
    assert run(photos) == 2
    go_on.set()
    first.join(20)
    said = capsys.readouterr().err
    assert f"is being filled by another run (process {os.getpid()} on " in said
    assert codes == [0] and len(fake.prompts) == 3
    assert sorted(files(tmp_path / "out")) == ["a.png", "b.png", "c.png"]


def test_the_lock_of_a_run_that_was_killed_is_no_obstacle(run, photos, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / outputs.LOCK).write_text("process 1 on this machine")
    assert run(photos) == 0
    assert sorted(files(tmp_path / "out")) == ["a.png", "b.png", "c.png"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder that takes nothing")
def test_an_output_that_cannot_be_made_stops_before_the_first_upload(
    run, fake, photos, capsys
) -> None:
    assert run(photos, output=Path("/proc/restored")) == 2
    said = capsys.readouterr().err
    assert "/proc/restored cannot be written (" in said and "take another --output" in said
    assert not fake.requests


@pytest.fixture
def room():
    """Lets files become that long at most."""
    resource = pytest.importorskip("resource", reason="Windows has no limits of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_before_the_first_upload(
    run, fake, photos, tmp_path, capsys, room
) -> None:
    room(1000)
    assert run(photos) == 2
    said = capsys.readouterr().err
    assert "out cannot be written (File too large): make room" in said
    assert not fake.requests and not (tmp_path / "out").exists()


@pytest.mark.parametrize("left", [100, 10_000])
def test_a_disk_that_fills_up_stops_the_run(
    run, fake, photos, tmp_path, capsys, room, left
) -> None:
    def fill(prompt, image):
        if len(fake.prompts) == 2:
            room(left)

    fake.refuse = fill
    fake.restore = lambda image: [Image.effect_noise((100, 100), 90)]  # about 10 kB
    assert run(photos) == 2
    said = capsys.readouterr().err
    assert "cannot be written (File too large): make room" in said
    assert "So far: 1 done, 0 skipped, 0 failed; run the command again to go on." in said
    room(-1)
    fake.refuse = lambda prompt, image: None
    assert run(photos) == 0
    assert sorted(files(tmp_path / "out")) == ["a.png", "b.png", "c.png"]


def test_every_line_is_on_the_disk_before_its_results_get_their_names(
    run, photos, tmp_path, monkeypatch
) -> None:
    """What fsync has not seen, a power cut may take: half a manifest, or results of nobody's."""
    real, synced = os.fsync, {}
    out = tmp_path / "out"

    def fsync(number: int) -> None:
        real(number)
        status = os.fstat(number)
        manifest = out / "manifest.jsonl"
        if manifest.exists() and os.path.samestat(status, manifest.stat()):
            assert status.st_size == len(manifest.read_bytes())
            synced[len(records(out))] = sorted(p.name for p in out.glob("*.png"))

    monkeypatch.setattr(os, "fsync", fsync)
    assert run(photos) == 0
    assert synced == {1: [], 2: ["a.png"], 3: ["a.png", "b.png"]}


def test_a_manifest_of_the_first_version_goes_on(run, fake, photos, tmp_path) -> None:
    assert run(photos) == 0
    path = tmp_path / "out" / "manifest.jsonl"
    old = [
        {
            "input": record["input"],
            "input_sha256": record["input_sha256"],
            "workflow": "workflow.json",
            "workflow_sha256": record["workflow_sha256"],
            "settings": {"save_as": "png", "input_node": "1"},
            "seed": {"2.seed": 7},
            "comfyui": "0.0.0",
            "outputs": record["outputs"],
            "seconds": 0.1,
            "metrics": {"input_size": [24, 16], "lr_psnr": 7.5, "texts": {}},
            "kept": [],
            "notes": ["copied, for x.png is equal", "copied, for y.png is equal"],
            "status": "done",
            "finished": "2026-01-01T00:00:00+00:00",
        }
        for record in records(tmp_path / "out")
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in old))
    shutil.copy(photos / "a.png", photos / "z.png")
    assert run(photos) == 0
    assert len(fake.prompts) == 3
    assert records(tmp_path / "out")[-1]["notes"] == [f"copied, for {photos / 'a.png'} is equal"]
