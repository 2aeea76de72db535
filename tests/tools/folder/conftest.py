"""A server that only pretends, three photos, and the command run on them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from restoration.tests.tools.folder.fake_comfy import WORKFLOW, FakeComfy
from restoration.tests.tools.folder.helpers import photo
from restoration.tools.comfyui import client
from restoration.tools.commands import main


@pytest.fixture(autouse=True)
def _polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake has no websocket, and looking for one takes longer than its work."""
    monkeypatch.setattr(client, "_events", lambda *address: contextlib.nullcontext())


@pytest.fixture
def fake() -> Iterator[FakeComfy]:
    server = FakeComfy()
    yield server
    server.close()


MAIN = """
import importlib.util, os, signal, sys, threading, time
spec = importlib.util.spec_from_file_location("fake_comfy", {fake!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
signal.signal(signal.SIGINT, signal.SIG_DFL)
{refuse}
module.FakeComfy(int(sys.argv[sys.argv.index("--port") + 1])).refuse = refuse
threading.Event().wait()
"""


@pytest.fixture
def comfyui(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that is started as a ComfyUI is. The module's REFUSE defines `refuse(prompt, image)`, which
    its every job goes through."""
    folder = tmp_path / "ComfyUI"
    (folder / "comfy").mkdir(parents=True)
    fake = str(Path(__file__).parent / "fake_comfy.py")
    (folder / "main.py").write_text(MAIN.format(fake=fake, refuse=request.module.REFUSE))
    return folder


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(WORKFLOW))
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
