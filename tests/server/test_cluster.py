"""Ray, several servers, and kills in the middle of forty pictures, with ComfyUI itself.

All of it takes about a quarter of an hour on two cores. tests/tools/folder has the same with a Ray and
ComfyUIs that only pretend."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from restoration.tests.server.conftest import png
from restoration.tests.tools.folder.cluster_runs import (
    Watched,
    is_actor,
    is_comfyui,
    processes_in,
    short_folder,
    watched,
)
from restoration.tests.tools.folder.helpers import files, records
from restoration.tools.comfyui.find import Host
from restoration.tools.comfyui.process import ComfyServer, free_port

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]
COUNT = 40
SOME = 10
"""Pictures after which something is killed."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        (folder / f"{number:02}.png").write_bytes(png(24 + number, 29))
    return folder


@pytest.fixture(scope="module")
def expected(server: ComfyServer, photos: Path, tmp_path_factory) -> dict[str, bytes]:
    """What one server makes of them."""
    out = tmp_path_factory.mktemp("one")
    with watched("quick_restore", photos, "-o", out, "--server", server.url) as running:
        assert running.wait() == 0, running.said
    return files(out)


def needs_ray() -> None:
    """Not imported here, where it would read its settings once and for all."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra `cluster` is not installed: pip install ray")


@pytest.fixture
def on_ray(
    host: Host, photos: Path, tmp_path: Path
) -> Callable[..., contextlib.AbstractContextManager]:
    """Starts the command with Ray, and comes back once some pictures are done."""

    @contextlib.contextmanager
    def start(*arguments: object) -> Iterator[Watched]:
        needs_ray()
        out = tmp_path / "out"
        words = ["quick_restore", photos, "-o", out, "--comfyui", host.path, "--cpu", *arguments]
        with watched(*words) as running:
            some = lambda: (out / "manifest.jsonl").exists() and len(records(out)) >= SOME  # noqa: E731
            assert running.wait(some) is None, running.said
            yield running

    return start


def whole(out: Path, expected: dict[str, bytes]) -> None:
    """Every picture done once, and the bytes those of one server."""
    made = records(out)
    assert len(made) == COUNT and {record["status"] for record in made} == {"done"}
    assert files(out) == expected


def test_several_servers_make_the_bytes_of_one(
    host: Host, server: ComfyServer, photos, expected, tmp_path
) -> None:
    out = tmp_path / "out"
    with ComfyServer(host) as second:
        words = ("quick_restore", photos, "-o", out)
        with watched(*words, "--server", server.url, "--server", second.url) as running:
            assert running.wait() == 0, running.said
            assert "Workers: " in running.said
    whole(out, expected)


@pytest.mark.parametrize(
    ("workers", "killed"), [(1, None), (2, None), (2, is_comfyui), (2, is_actor)]
)
def test_workers_on_ray_make_the_bytes_of_one_server(
    on_ray, expected, tmp_path, workers, killed
) -> None:
    with on_ray("--workers", workers, "--ray") as running:
        if killed is not None:
            found = running.started(killed)
            assert len(found) == workers
            found[0].kill()
        assert running.wait() == 0, running.said
        assert running.left() == []
    whole(tmp_path / "out", expected)


def test_a_command_that_is_killed_leaves_no_process_and_no_folder_and_goes_on(
    on_ray, expected, tmp_path
) -> None:
    with on_ray("--workers", 2, "--ray") as running:
        running.kill()
        assert running.left(100) == []  # two agents of Ray's end by themselves after a minute
    assert len(records(tmp_path / "out")) < COUNT
    with on_ray("--workers", 2, "--ray") as running:
        assert running.wait() == 0, running.said
        assert running.left() == []
    whole(tmp_path / "out", expected)


class Machines:
    """A cluster of Ray whose machines, with one core each, all are this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Of all their temporary files."""
        self.address = f"127.0.0.1:{free_port()}"
        head = ["--head", "--port", self.address.partition(":")[2], "--temp-dir", folder / "ray"]
        self.add(*head, "--include-dashboard", "false")

    def add(self, *words: object) -> subprocess.Popen[bytes]:
        """One more, once it has joined: the process that holds it."""
        there = len(self._raylets())
        command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--block",
            "--num-cpus",
            "1",
        ]
        memory = ["--object-store-memory", str(128 << 20)]
        process = subprocess.Popen(
            [*command, *memory, *map(str, words or ("--address", self.address))],
            env=os.environ | {"TMPDIR": str(self.folder)}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 120
        while len(self._raylets()) == there:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.5)
        return process

    def _raylets(self) -> list[psutil.Process]:
        return processes_in(self.folder, lambda line: "raylet/raylet " in line)

    def kill(self, machine: subprocess.Popen[bytes]) -> None:
        """The power is cut."""
        for each in psutil.Process(machine.pid).children():
            each.kill()

    def close(self) -> None:
        for each in processes_in(self.folder):
            with contextlib.suppress(psutil.Error):
                each.kill()


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    """A cluster of one machine; the command finds its token."""
    needs_ray()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with short_folder() as folder:
        cluster = Machines(folder)
        try:
            yield cluster
        finally:
            cluster.close()


def no_comfyui_in(folder: Path, seconds: float = 30.0) -> None:
    """Neither a process nor a folder of one, some seconds from now at most."""
    end = time.monotonic() + seconds
    while True:
        there = [*processes_in(folder, is_comfyui), *folder.glob("comfy-host-*")]
        if not there:
            return
        assert time.monotonic() < end, there
        time.sleep(0.5)


def test_a_machine_that_dies_leaves_its_pictures_to_the_others(
    on_ray, expected, tmp_path, machines
) -> None:
    second = machines.add()
    with on_ray("--workers", 2, "--ray", machines.address) as running:
        assert len(processes_in(machines.folder, is_comfyui)) == 2
        machines.kill(second)
        assert running.wait() == 0, running.said
        assert running.left() == []
    whole(tmp_path / "out", expected)
    no_comfyui_in(machines.folder)


def test_a_command_that_is_killed_leaves_nothing_on_a_cluster_that_goes_on(
    on_ray, machines
) -> None:
    with on_ray("--ray", machines.address) as running:
        assert len(processes_in(machines.folder, is_comfyui)) == 1
        running.kill()
        assert running.left() == []
        no_comfyui_in(machines.folder)
