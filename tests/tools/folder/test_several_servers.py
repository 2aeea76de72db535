"""The command with several servers that only pretend: what it makes, counts, says and refuses."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from restoration.tests.tools.folder.fake_comfy import FakeComfy
from restoration.tests.tools.folder.helpers import files, photo, records
from restoration.tools.commands import main
from restoration.tools.folder import summary


@pytest.fixture
def second():
    server = FakeComfy()
    yield server
    server.close()


@pytest.fixture
def both(fake, second, workflow, tmp_path):
    def call(*arguments: object, output: Path = tmp_path / "both") -> int:
        words = ["run", str(workflow), *map(str, arguments), "-o", str(output)]
        return main([*words, "--server", fake.url, "--server", second.url])

    return call


def test_several_servers_make_what_one_makes(run, both, fake, second, tmp_path, capsys) -> None:
    for number in range(12):
        photo(tmp_path / "in" / f"{number}.png", 10 * number)
    fake.refuse = second.refuse = lambda prompt, image: time.sleep(0.02)
    assert both(tmp_path / "in") == 0
    said = capsys.readouterr().out
    assert len(fake.prompts) + len(second.prompts) == 12 and fake.prompts and second.prompts
    assert f"{fake.url} {len(fake.prompts)} (" in said and "pictures a minute)" in said
    assert run(tmp_path / "in", output=tmp_path / "one") == 0
    made = files(tmp_path / "both")
    assert sorted(made) == sorted(files(tmp_path / "one")) and len(made) == 12
    assert {r["input"]: r["outputs"][0]["file"] for r in records(tmp_path / "both")} == {
        r["input"]: r["outputs"][0]["file"] for r in records(tmp_path / "one")
    }
    assert both(tmp_path / "in") == 0 and len(fake.prompts) + len(second.prompts) == 24


def test_a_server_that_dies_leaves_its_pictures_to_the_other_one(
    both, fake, second, tmp_path, capsys
) -> None:
    for number in range(12):
        photo(tmp_path / "in" / f"{number}.png", 10 * number)

    def die(prompt, image):
        if len(fake.prompts) == 2:
            fake.get = lambda path: (b"", 500)
            return "vanish"
        return time.sleep(0.02)

    fake.refuse = die
    second.refuse = lambda prompt, image: time.sleep(0.02)
    assert both(tmp_path / "in") == 0
    assert len(fake.prompts) == 2 and len(second.prompts) == 11
    assert {record["status"] for record in records(tmp_path / "both")} == {"done"}
    assert len(records(tmp_path / "both")) == 12


def test_failures_are_counted_by_what_they_are_laid_to(run, fake, photos, capsys) -> None:
    (photos / "broken.png").write_text("no picture")
    fake.refuse = lambda prompt, image: "too dark" if image.getpixel((0, 0))[2] == 10 else None
    assert run(photos) == 1
    said = capsys.readouterr().out
    assert "Failures: " in said
    assert "1 refused or failed by the workflow" in said
    assert "1 could not be read, sent or written" in said


def test_a_run_that_goes_on_tells_how_it_goes(run, photos, capsys, monkeypatch) -> None:
    monkeypatch.setattr(summary, "EVERY", 0.0)
    assert run(photos) == 0
    assert "1 done, 0 skipped, 0 failed; " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "2"], "--workers is about --ray"),
        (["--gpus-per-worker", "1"], "--gpus-per-worker is about --ray"),
        (["--ray"], "leave --server out, or --ray"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    run, fake, photos, capsys, arguments, words
):
    assert run(photos, *arguments) == 2
    assert words in capsys.readouterr().err and not fake.requests


def test_without_ray_a_sentence_says_what_to_do(workflow, photos, tmp_path, monkeypatch, capsys):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "ray" else real(name, *rest),
    )
    words = ["run", str(workflow), str(photos), "-o", str(tmp_path / "out"), "--ray"]
    assert main(words) == 2
    assert "run pip install ray" in capsys.readouterr().err
