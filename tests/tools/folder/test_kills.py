"""Killed outright, at any moment: what was done is whole, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from restoration.tests.tools.folder.helpers import files, records
from restoration.tools.commands import main
from restoration.tools.folder.manifest import Manifest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")


def killed(act) -> None:
    """Does something in a process that is killed meanwhile."""
    number = os.fork()
    if number == 0:
        try:
            act()
        finally:
            os._exit(0)
    _, status = os.waitpid(number, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def kill_myself(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def whole(folder: Path) -> None:
    assert sorted(files(folder)) == ["a.png", "b.png", "c.png"]
    last = {Path(record["input"]).name: record for record in records(folder)}
    for name, record in last.items():
        assert record["status"] == "done"
        assert [each["file"] for each in record["outputs"]] == [name]


@pytest.mark.parametrize("place", ["while the line is written", "before a result has its name"])
@pytest.mark.parametrize("again", [False, True])
def test_a_run_that_is_killed_while_it_writes_goes_on(
    run, fake, photos, tmp_path, place, again
) -> None:
    if again:
        assert run(photos) == 0
    done = len(fake.prompts)
    calls = []

    def act() -> None:
        owner, name = (Manifest, "add") if "line" in place else (Path, "replace")
        real = getattr(owner, name)

        def second(*arguments):
            calls.append(arguments)
            return kill_myself() if len(calls) == 2 else real(*arguments)

        setattr(owner, name, second)
        run(photos, *(["--again"] if again else []))

    killed(act)
    assert len(fake.prompts) == done + 2
    before = files(tmp_path / "out")
    assert "a.png" in before and (again or "b.png" not in before)
    assert run(photos) == 0
    whole(tmp_path / "out")


def test_a_run_that_is_killed_while_the_server_works_goes_on(run, fake, photos, tmp_path) -> None:
    runner: list[int] = []

    def kill(prompt, image):
        if len(fake.prompts) == 2:
            os.kill(runner[0], signal.SIGKILL)

    fake.refuse = kill
    runner.append(os.fork())
    if runner[0] == 0:
        try:
            run(photos)
        finally:
            os._exit(0)
    _, status = os.waitpid(runner[0], 0)
    assert os.WIFSIGNALED(status)
    assert [record["status"] for record in records(tmp_path / "out")] == ["done"]
    fake.refuse = lambda prompt, image: None
    assert run(photos) == 0
    assert len(fake.prompts) == 4
    whole(tmp_path / "out")


MAIN = """
import importlib.util, os, signal, sys, threading
from pathlib import Path
spec = importlib.util.spec_from_file_location("fake_comfy", {fake!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
seen = Path(__file__).parent / "seen"
signal.signal(signal.SIGINT, signal.SIG_DFL)  # which nohup and background jobs ignore

def die(prompt, image):
    number = len(list(seen.iterdir()))
    (seen / str(number)).touch()
    if number in {deadly}:
        os.kill(os.getpid(), signal.SIGKILL)

module.FakeComfy(int(sys.argv[sys.argv.index("--port") + 1])).refuse = die
threading.Event().wait()
"""


@pytest.fixture
def comfyui(tmp_path: Path):
    """A checkout of what looks like ComfyUI and kills itself at some prompts."""

    def make(deadly: set[int]) -> Path:
        folder = tmp_path / "ComfyUI"
        for name in ("comfy", "seen"):
            (folder / name).mkdir(parents=True)
        fake = str(Path(__file__).parent / "fake_comfy.py")
        (folder / "main.py").write_text(textwrap.dedent(MAIN.format(fake=fake, deadly=deadly)))
        return folder

    return make


def run_own(workflow: Path, photos: Path, out: Path, comfyui: Path) -> int:
    return main(["run", str(workflow), str(photos), "-o", str(out), "--comfyui", str(comfyui)])


def test_a_comfyui_of_our_own_that_is_killed_is_started_again(
    workflow, photos, tmp_path, comfyui, capsys
) -> None:
    folder, out = comfyui({1}), tmp_path / "out"
    assert run_own(workflow, photos, out, folder) == 1
    made = records(out)
    assert [record["status"] for record in made] == ["done", "failed", "done"]
    assert made[1]["error"]
    assert run_own(workflow, photos, out, folder) == 0
    whole(out)


def test_a_comfyui_that_always_dies_is_not_started_for_ever(
    workflow, photos, tmp_path, comfyui, capsys
) -> None:
    out = tmp_path / "out"
    assert run_own(workflow, photos, out, comfyui(set(range(9)))) == 2
    said = capsys.readouterr().err
    assert "So far: 0 done, 0 skipped, 2 failed; run the command again to go on." in said
    assert [record["status"] for record in records(out)] == ["failed", "failed"]


def test_where_nothing_is_left_to_do_no_comfyui_is_started(
    workflow, photos, tmp_path, comfyui
) -> None:
    folder, out = comfyui(set()), tmp_path / "out"
    for _ in range(2):
        assert run_own(workflow, photos, out, folder) == 0
    assert len(list((folder / "seen").iterdir())) == 3


SLEEPS = """
import os, time
from pathlib import Path
Path({told!r}).write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.parametrize("when", ["while its ComfyUI starts", "at work", "with its children"])
def test_a_command_that_is_killed_leaves_no_comfyui_and_no_folder(
    workflow, photos, tmp_path, monkeypatch, comfyui, when
) -> None:
    """Else that would keep its memory, and the next run would lack it."""
    folder, told = comfyui(set()), tmp_path / "told"
    program = folder / "main.py"
    act = SLEEPS.format(told=str(told))
    if when != "while its ComfyUI starts":
        die = textwrap.indent(textwrap.dedent(act), "    ")
        act = program.read_text().replace("    number = len", f"{die}    number = len")
    program.write_text(act)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    runner = os.fork()
    if runner == 0:
        try:
            run_own(workflow, photos, tmp_path / "out", folder)
        finally:
            os._exit(0)
    wait_for(lambda: told.exists() and told.read_text() != "")
    assert [*temporary.iterdir()]
    for number in (*(children(runner) if when == "with its children" else ()), runner):
        os.kill(number, signal.SIGKILL)
    os.waitpid(runner, 0)
    wait_for(lambda: not is_alive(int(told.read_text())))
    wait_for(lambda: not [*temporary.iterdir()])


def children(number: int) -> list[int]:
    """Its own, not theirs: what Ray ends with one of its workers."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout
    pairs = (map(int, line.split()) for line in listed.splitlines())
    return [pid for pid, parent in pairs if parent == number]


def is_alive(number: int) -> bool:
    """Whether a process is there that has not ended."""
    words = ["ps", "-o", "stat=", "-p", str(number)]
    state = subprocess.run(words, capture_output=True, text=True).stdout.strip()
    return state != "" and not state.startswith("Z")


def wait_for(event: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
