"""Several servers at once, with ComfyUI itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from restoration.tests.server.conftest import png
from restoration.tests.tools.folder.cluster_runs import watched
from restoration.tests.tools.folder.helpers import files, records
from restoration.tools.comfyui.find import Host
from restoration.tools.comfyui.process import ComfyServer

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,  # tests/tools/folder has short ones, with servers that only pretend
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]
COUNT = 40


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
