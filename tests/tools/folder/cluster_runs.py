"""The command on a local Ray cluster, watched from outside: what it starts, and what it leaves."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

TOOLS = Path(__file__).resolve().parents[3] / "tools"


CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""Where torch keeps what it has compiled, on purpose: in the folder of temporary files unless told."""


class Watched:
    """A command that runs, and all that it has started."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self.folder = folder
        """Of all its temporary files."""
        environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self._out = (folder / "out.txt").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(TOOLS), "run", *words],
            env=environ | {"TMPDIR": str(folder), CACHE: str(Path(tempfile.gettempdir()) / "torch")},
            stdout=self._out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.seen: dict[int, psutil.Process] = {}

    @property
    def said(self) -> str:
        return (self.folder / "out.txt").read_text("utf-8", "replace")

    def started(self, is_it: Callable[[str], bool]) -> list[psutil.Process]:
        """The processes below it whose command line is meant, oldest first."""
        self.look()
        found = []
        for each in self.seen.values():
            with contextlib.suppress(psutil.Error):
                if is_it(" ".join(each.cmdline())):
                    found.append(each)
        return found

    def look(self) -> None:
        with contextlib.suppress(psutil.Error):
            for each in psutil.Process(self._process.pid).children(recursive=True):
                self.seen.setdefault(each.pid, each)

    def all(self) -> Iterator[psutil.Process]:
        """Also those that it has started and left between two looks: they have its environment."""
        yield from self.seen.values()
        yield from (each for each in processes_in(self.folder) if each.pid not in self.seen)

    def wait(self, until: Callable[[], bool] = lambda: False, seconds: float = 300.0) -> int | None:
        """Its exit code, or None once something has come about."""
        deadline = time.monotonic() + seconds
        while (code := self._process.poll()) is None and not until():
            self.look()
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)
        return code

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def left(self, seconds: float = 20.0) -> list[str]:
        """What is there of processes and temporary files some seconds after its end, at most."""
        deadline = time.monotonic() + seconds
        while True:
            alive = [f"{each}" for each in self.all() if _is_alive(each)]
            names = [path.name for path in self.folder.iterdir() if path.name != "out.txt"]
            if not (alive or names) or time.monotonic() > deadline:
                return alive + names
            time.sleep(0.2)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # ended between the two questions
        return False


def is_comfyui(line: str) -> bool:
    return "main.py" in line and "--base-directory" in line


def is_actor(line: str) -> bool:
    return line.startswith("ray::ComfyActor")


def processes_in(
    folder: Path, is_it: Callable[[str], bool] = lambda line: True
) -> list[psutil.Process]:
    """The processes whose temporary files are to lie there, and whose command line is meant."""
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.environ().get("TMPDIR") == str(folder) and is_it(" ".join(each.cmdline())):
                found.append(each)
    return found


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder whose path leaves room for the names of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def watched(*words: object) -> Iterator[Watched]:
    """Runs the command; whatever happens, nothing of it is there afterwards."""
    with short_folder() as folder:
        running = Watched([*map(str, words)], folder)
        try:
            yield running
        finally:
            running.look()
            running.kill()
            for each in running.all():
                with contextlib.suppress(psutil.Error):
                    each.kill()
