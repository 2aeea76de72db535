"""A ComfyUI of the runner's own."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from restoration.tools.comfyui import process as processes
from restoration.tools.comfyui.find import Host, HostError
from restoration.tools.comfyui.process import ComfyServer
from restoration.tools.folder import server as servers


class Dying:
    """A ComfyUI of our own that does not answer until it is started again."""

    url = "http://127.0.0.1:9"

    def __init__(self, cures: bool) -> None:
        self.cures, self.alive, self.starts = cures, False, 0
        self.stopping = threading.Event()

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
    server = servers.Server(own, own)  # type: ignore[arg-type]
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
    paths = servers._model_paths(tmp_path)["comfyui"]
    assert paths == {
        "base_path": str(tmp_path),
        "checkpoints": "models/checkpoints",
        "restoration": "models/restoration",
        "custom_nodes": "custom_nodes",
    }
    assert not servers._holds_pack(tmp_path)
    (tmp_path / "custom_nodes" / "any-name").symlink_to(servers.PACK_ROOT)
    assert servers._holds_pack(tmp_path)


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
    ("system", "ignored", "number"),
    [
        ("linux", False, signal.SIGINT),
        ("linux", True, signal.SIGTERM),
        ("win32", False, signal.SIGTERM),
    ],
)
def test_a_server_is_stopped_by_a_signal_that_it_hears(
    tmp_path, monkeypatch, system, ignored, number
) -> None:
    """The interrupt is ignored by what nohup or a background job starts, and waited for in vain."""
    own = ComfyServer(host=Host(tmp_path, "1.0", "test"))
    (base := tmp_path / "base").mkdir()
    own.base, process = base, Stopping()
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *words, **settings: process)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        own._launch()
    finally:
        signal.signal(signal.SIGINT, before)
    own.close()
    assert process.signals == [number]


def test_the_guard_hears_of_an_end_that_fails(tmp_path, monkeypatch) -> None:
    """Else it would take this process for killed, and signal a number that may be another's."""
    said = []
    guard = type(
        "Pretend",
        (servers.Guard,),
        {"__init__": lambda self: None, "close": lambda self: said.append(self)},
    )

    def broken(self) -> None:
        raise OSError("no such process")

    own = servers.OwnServer(host=Host(tmp_path, "1.0", "test"))
    own._guard = guard()
    monkeypatch.setattr(ComfyServer, "close", broken)
    with contextlib.suppress(OSError):
        own.close()
    assert len(said) == 1 and own._guard is None


@pytest.mark.parametrize("closed", [True, False])
def test_a_guard_removes_its_folder_only_where_nobody_has_closed_it(
    tmp_path: Path, closed: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    guard = servers.Guard(folder)
    if closed:
        guard.close()
    else:
        guard._process.communicate()  # what the death of this process would do
    end = time.monotonic() + (1 if closed else 20)
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert folder.exists() == closed


@pytest.mark.parametrize("cpu", [True, False])
def test_one_that_does_not_start_says_why_and_what_a_machine_without_a_card_needs(
    tmp_path: Path, cpu: bool
) -> None:
    (tmp_path / "comfy").mkdir()
    (tmp_path / "main.py").write_text("raise SystemExit('Found no driver')")
    with pytest.raises(HostError) as told, servers.serving(tmp_path, (), cpu):
        pass
    assert "(exit code 1). The end of its log:\nFound no driver" in str(told.value)
    assert str(told.value).endswith("--cpu.") != cpu
