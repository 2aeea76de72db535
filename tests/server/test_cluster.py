"""Ray, several servers, and kills in the middle of forty pictures, with ComfyUI itself.

All of it takes about a quarter of an hour on two cores. tests/tools/folder has the same with a Ray and
ComfyUIs that only pretend."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
from restoration.tools.comfyui.process import ComfyServer

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


@pytest.fixture
def on_ray(
    host: Host, photos: Path, tmp_path: Path
) -> Callable[..., contextlib.AbstractContextManager]:
    """Starts the command with Ray, and comes back once some pictures are done."""

    @contextlib.contextmanager
    def start(*arguments: object) -> Iterator[Watched]:
        pytest.importorskip("ray", reason="the extra `cluster` is not installed: pip install ray")
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
        assert running.left(40) == []
    assert len(records(tmp_path / "out")) < COUNT
    with on_ray("--workers", 2, "--ray") as running:
        assert running.wait() == 0, running.said
        assert running.left() == []
    whole(tmp_path / "out", expected)


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[object, Path]]:
    """A cluster of two machines with one core each, both on this one; the folder of their temporary
    files."""
    pytest.importorskip("ray", reason="the extra `cluster` is not installed: pip install ray")
    with short_folder() as folder:
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray.cluster_utils import Cluster

        settings = {"num_cpus": 1, "object_store_memory": 128 << 20}
        head = settings | {"include_dashboard": False, "temp_dir": str(folder / "ray")}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster, folder
        finally:
            cluster.shutdown()
            ray.shutdown()


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
    cluster, folder = machines
    second = cluster.add_node(num_cpus=1, object_store_memory=128 << 20)
    with on_ray("--workers", 2, "--ray", cluster.address) as running:
        assert len(processes_in(folder, is_comfyui)) == 2
        cluster.remove_node(second, allow_graceful=False)
        assert running.wait() == 0, running.said
        assert running.left() == []
    whole(tmp_path / "out", expected)
    no_comfyui_in(folder)


def test_a_command_that_is_killed_leaves_nothing_on_a_cluster_that_goes_on(
    on_ray, tmp_path, machines
) -> None:
    cluster, folder = machines
    with on_ray("--ray", cluster.address) as running:
        assert len(processes_in(folder, is_comfyui)) == 1
        running.kill()
        assert running.left(40) == []
        no_comfyui_in(folder)
