"""Nothing of the user's is replaced, and no result replaces another one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restoration.tests.tools.folder.fake_comfy import negative
from restoration.tests.tools.folder.helpers import files, photo, pixels, records
from restoration.tools.files import part_of
from restoration.tools.folder.errors import UsageError
from restoration.tools.folder.manifest import Manifest
from restoration.tools.folder.names import named_apart, refuse_inputs
from restoration.tools.folder.output import Output
from restoration.tools.folder.saving import Order, Saving, Task
from restoration.tools.folder.workflow import Job

ORDER = Order(Job({}, "1", "", {}), Saving("png", 95), "workflow.json", 1.0)


def tasks(*names: str, folder: Path = Path("in")) -> list[Task]:
    return [Task(folder / name, Path(name), Path(name), name, ORDER) for name in names]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    said = capsys.readouterr().err
    assert all(word in said for word in (*words, "take another --output")), said


# Originals


def test_a_folder_is_never_restored_onto_itself(run, fake, photos, capsys) -> None:
    shutil.copy(photos / "a.png", photos / "d.jpg")
    before = files(photos)
    for arguments in (
        [photos],
        [photos / "a.png"],
        [photos / "*.png"],
        [photos / "*.jpg", "--format", "same"],
        [photos, "--again"],
    ):
        assert run(*arguments, output=photos) == 2
        refused(capsys, "The result of", "a picture of this run")
    assert files(photos) == before and not fake.prompts
    assert not (photos / "manifest.jsonl").exists()


def test_results_of_another_format_may_lie_beside_the_photos(run, fake, photos, capsys) -> None:
    before = files(photos)
    for inputs in (photos, photos, photos / "*"):
        assert run(inputs, "--format", "jpg", output=photos) == 0
        said = capsys.readouterr().err
    assert len(fake.prompts) == 3
    assert before.items() <= files(photos).items()
    assert "3 results of earlier runs: a.jpg, b.jpg, c.jpg" in said


@pytest.mark.parametrize("way", ["folder", "symlink", "hardlink", "deeper"])
def test_links_to_a_photo_are_the_photo(run, fake, photos, tmp_path, capsys, way) -> None:
    before, out = files(photos), tmp_path / "out"
    if way == "folder":
        out.symlink_to(photos)
    elif way == "deeper":
        (photos / "sub").mkdir()
        out = photos / "sub" / ".."
    else:
        out.mkdir()
        (os.symlink if way == "symlink" else os.link)(photos / "b.png", out / "b.png")
    assert run(photos, output=out) == 2
    refused(capsys, "The result of", "a picture of this run")
    assert files(photos) == before and not fake.prompts


def test_a_numbered_result_could_land_on_a_photo(run, fake, tmp_path, capsys) -> None:
    folder = tmp_path / "in"
    photo(folder / "a.gif", 1)
    photo(folder / "a_1.png", 2)
    photo(folder / "a_1.bmp", 3)
    before = files(folder)
    assert run(folder, output=folder) == 2
    refused(capsys, "a_1.png, which is")
    assert files(folder) == before and not fake.prompts


def test_where_case_does_not_count_it_does_not_tell_a_photo_from_a_result(tmp_path) -> None:
    path = photo(tmp_path / "A.PNG", 1)
    (task,) = named_apart(tasks("a.bmp"), Output(tmp_path, Manifest(tmp_path / "no"), True))
    refuse_inputs([task], [path], Output(tmp_path, Manifest(tmp_path / "no"), False))
    with pytest.raises(UsageError, match="could become"):
        refuse_inputs([task], [path], Output(tmp_path, Manifest(tmp_path / "no"), True))


# Files of nobody's


def test_a_file_that_no_line_made_is_refused_before_anything_runs(
    run, fake, photos, tmp_path, capsys
) -> None:
    mine = photo(tmp_path / "out" / "b.png", 200)
    (tmp_path / "out" / "c.png").symlink_to("nowhere")
    before = mine.read_bytes()
    for arguments in ((), ("--again",)):
        assert run(photos, *arguments) == 2
        refused(capsys, "b.png, c.png in", "no line of manifest.jsonl made that")
    assert mine.read_bytes() == before and not fake.prompts
    mine.rename(tmp_path / "kept.png")
    (tmp_path / "out" / "c.png").unlink()
    assert run(photos) == 0


@pytest.mark.parametrize("numbered", [False, True])
def test_a_file_that_appears_while_it_runs_is_not_replaced(
    run, fake, photos, tmp_path, numbered
) -> None:
    name = "b_2.png" if numbered else "b.png"

    def appear(prompt, image):
        if len(fake.prompts) == 2:
            photo(tmp_path / "out" / name, 222)

    fake.refuse = appear
    if numbered:
        fake.restore = lambda image: [negative(image)] * 2
    assert run(photos) == 1
    done, failed, after = records(tmp_path / "out")
    assert (done["status"], failed["status"], after["status"]) == ("done", "failed", "done")
    assert f"{name} is there, and no line of manifest.jsonl made it" in failed["error"]
    assert pixels(tmp_path / "out" / name)[0, 0, 2] == 222
    assert not list((tmp_path / "out").glob("b_1.png"))


# Results of other pictures


def test_two_folders_share_an_output_and_lose_nothing(run, photos, tmp_path) -> None:
    photo(tmp_path / "other" / "a.png", 99)
    assert run(photos) == 0
    first = (tmp_path / "out" / "a.png").read_bytes()
    for _ in range(2):
        assert run(tmp_path / "other") == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == first
    assert pixels(tmp_path / "out" / "a.png.png")[0, 0, 2] == 255 - 99
    assert len(records(tmp_path / "out")) == 4


def several(image: Image.Image) -> list[Image.Image]:
    return [negative(image)] * (2 if np.asarray(image.convert("RGB"))[0, 0, 2] < 100 else 1)


def bitmap(path: Path, color: int) -> Path:
    """Two results come of it."""
    return photo(path, color)


@pytest.mark.parametrize("order", ["together", "several first", "one first"])
def test_numbered_results_and_names_with_numbers_do_not_meet(run, fake, tmp_path, order) -> None:
    two = bitmap(tmp_path / "in" / "a.bmp", 50)
    one = photo(tmp_path / "in" / "a_1.png", 150)
    fake.restore = several
    turns = {"together": [[tmp_path / "in"]], "several first": [[two], [one]]}
    for arguments in turns.get(order, [[one], [two]]):
        assert run(*arguments) == 0
    assert run(tmp_path / "in") == 0
    assert len(fake.prompts) == 2
    made = records(tmp_path / "out")
    names = [each["file"] for record in made for each in record["outputs"]]
    assert len(set(names)) == 3
    for record in made:
        blue = 255 - (50 if record["input"] == str(two) else 150)
        for each in record["outputs"]:
            assert pixels(tmp_path / "out" / each["file"])[0, 0, 2] == blue


def test_extensions_tell_apart_what_without_them_is_one(tmp_path) -> None:
    output = Output(tmp_path, Manifest(tmp_path / "no"), False)
    names = {
        task.path.name: task.file()
        for task in named_apart(tasks("a.gif", "a.jpg", "a.gif.png", "b.jpg"), output)
    }
    assert names == {
        "a.gif": "a.gif.png",
        "a.jpg": "a.jpg.png",
        "a.gif.png": "a.gif.png.png",
        "b.jpg": "b.png",
    }


def test_case_tells_names_apart_only_where_it_counts(tmp_path) -> None:
    folding, not_folding = (Output(tmp_path, Manifest(tmp_path / "no"), f) for f in (True, False))
    pair = tasks("a.jpg", "A.png")
    assert [task.file() for task in named_apart(pair, not_folding)] == ["a.png", "A.png"]
    assert [task.file() for task in named_apart(pair, folding)] == ["a.jpg.png", "A.png.png"]
    pair = tasks("a.jpg", "a.JPG")
    assert [task.file() for task in named_apart(pair, not_folding)] == ["a.jpg.png", "a.JPG.png"]
    with pytest.raises(UsageError, match="would both become"):
        named_apart(pair, folding)


@pytest.mark.parametrize("file", ["../theirs.png", "/theirs.png", "in/../../theirs.png", "", "."])
def test_a_manifest_cannot_name_files_outside_its_folder(
    run, fake, photos, tmp_path, capsys, file
) -> None:
    """A line is trusted with replacing and removing what it names."""
    assert run(photos) == 0
    manifest, asked = tmp_path / "out" / "manifest.jsonl", len(fake.prompts)
    line = json.loads(manifest.read_text("utf-8").splitlines()[0])
    line["outputs"][0]["file"] = file
    manifest.write_text(json.dumps(line) + "\n", "utf-8")
    theirs = part_of(tmp_path / "theirs.png")
    theirs.touch()
    capsys.readouterr()
    assert run(photos, "--again") == 2
    refused(capsys, "Line 1 of", "not below this folder")
    assert theirs.exists() and len(fake.prompts) == asked


# Names


def test_a_name_that_is_not_utf8_is_done_once_and_shown(run, fake, photos, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        photo(photos / name, 77)
    except OSError:
        pytest.skip("this file system allows UTF-8 only")
    for _ in range(2):
        assert run(photos) == 0
    assert len(fake.prompts) == 4
    assert pixels(tmp_path / "out" / name)[0, 0, 2] == 255 - 77
    (record,) = [r for r in records(tmp_path / "out") if "caf" in r["input"]]
    assert record["input"] == str(photos / name)
    assert record["outputs"][0]["file"] == name
    assert r"caf\xe9.png: skipped, done already" in capsys.readouterr().out


def test_the_manifest_stays_readable_for_other_scripts(run, photos, tmp_path) -> None:
    photo(photos / "照片.png", 77)
    assert run(photos) == 0
    assert "照片.png" in (tmp_path / "out" / "manifest.jsonl").read_text("utf-8")


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_a_name_cannot_write_on_the_terminal(run, photos, capsys) -> None:
    photo(photos / "x\n[9-9] y: done\x1b[2J\u202e.png", 77)
    (photos / "\x1b[2J.txt").touch()
    assert run(photos) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\u202e" not in said.out
    assert r"x\n[9-9] y: done\x1b[2J\u202e.png" in said.out
    assert len(said.out.splitlines()) == 5


@pytest.mark.skipif(os.name == "nt", reason="its names are counted in other units")
def test_names_of_the_full_length_work_or_are_refused_before_the_work(
    run, fake, photos, tmp_path
) -> None:
    photo(photos / f"{'x' * 246}.png", 50)
    photo(photos / f"{'ä' * 123}.bmp", 51)
    photo(photos / f"{'y' * 251}.png", 52)
    photo(photos / f"{'z' * 250}.png", 53)
    photo(photos / f"{'z' * 250}.bmp", 54)
    assert run(photos) == 1
    assert len(fake.prompts) == 6
    failed = [record for record in records(tmp_path / "out") if record["status"] == "failed"]
    assert [Path(record["input"]).name[0] for record in failed] == ["z", "z"]
    for record in failed:
        assert "has 258 bytes, and a file's name at most 255: shorten" in record["error"]
