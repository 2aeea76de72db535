"""One file from servers that cut, refuse, lie and send something else."""

from __future__ import annotations

import errno
import sys
import types
from collections import namedtuple
from pathlib import Path

import pytest

from restoration.common.method import WeightFile
from restoration.tests.tools.weights.get.file_server import FileServer, Served, digest
from restoration.tools.weights.get import download as download_module
from restoration.tools.weights.get.addresses import Hosts
from restoration.tools.weights.get.errors import DiskError, FetchError, InTheWayError
from restoration.tools.weights.get.fetch import Fetcher
from restoration.tools.weights.get.part import Part

DEFAULT = Hosts()
NAME = "v2.pth"
NO_HUB = "huggingface_hub is not installed: pip install huggingface_hub"
PAGE = b"<!doctype html><title>Sign in</title>"


def of(url: str, sha256: str = "", mirror: str = "", how: str = "") -> WeightFile:
    return WeightFile(NAME, url, "controlnet", 10, "any", sha256, mirror, how)


class Run:
    """Fetches one file into a folder."""

    def __init__(self, folder: Path, hosts: Hosts = DEFAULT) -> None:
        self.said: list[str] = []
        self.target = folder / "models" / NAME
        self._fetcher = Fetcher(hosts, self.said.append)

    def __call__(self, file: WeightFile) -> bytes:
        found = self._fetcher.fetch(file, self.target, lambda done, total: None)
        assert found == digest(self.target.read_bytes())
        return self.target.read_bytes()

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.target.parent.iterdir())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_file_comes_whole_and_leaves_nothing_beside_it(run, server, weights) -> None:
    server.paths["/a"] = Served(weights)
    assert run(of(f"{server.url}/a", digest(weights))) == weights
    assert run.left == [NAME] and not run.said
    assert len(server.asked) == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_connection_that_is_cut_goes_on_where_it_was(run, server, weights, chunked) -> None:
    server.paths["/a"] = Served(weights, cuts=[1000, 1000, 5], chunked=chunked)
    if chunked:  # nobody knows its end, so the content has to tell
        with pytest.raises(FetchError, match=r"is not whole|damaged|cut off"):
            run(of(f"{server.url}/a"))
        return
    assert run(of(f"{server.url}/a")) == weights
    assert [asked[2] for asked in server.asked] == [
        "", "bytes=1000-", "bytes=2000-", "bytes=2005-",
    ]  # fmt: skip


def test_the_next_run_goes_on_where_the_last_one_ended(run, server, weights, tmp_path) -> None:
    server.paths["/a"] = Served(weights, cuts=[3000] + [0] * 5)
    with pytest.raises(FetchError, match="run the command again, and it goes on from there"):
        run(of(f"{server.url}/a"))
    assert not run.target.exists() and len(run.left) == 2
    assert all(name.startswith(".") for name in run.left)
    assert Run(tmp_path)(of(f"{server.url}/a")) == weights
    assert server.asked[-1][2] == "bytes=3000-" and run.left == [NAME]


@pytest.mark.parametrize("ranges", [False, True])
def test_another_version_or_a_server_without_ranges_begins_anew(
    run, server, weights, tmp_path, ranges
) -> None:
    server.paths["/a"] = Served(b"x" * len(weights), cuts=[3000] + [0] * 5)
    with pytest.raises(FetchError):
        run(of(f"{server.url}/a"))
    server.paths["/a"] = Served(weights, ranges=ranges, etag='"two"' if ranges else '"one"')
    asked = len(server.asked)
    assert Run(tmp_path)(of(f"{server.url}/a")) == weights
    assert len(server.asked) == asked + 1, "nothing of the old one was kept and found wrong"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_withdrawn_address_falls_back_to_the_mirror_and_says_so(
    run, server, weights, status
) -> None:
    server.paths |= {"/gone": Served(status=status), "/mirror": Served(weights)}
    assert run(of(f"{server.url}/gone", mirror=f"{server.url}/mirror")) == weights
    assert f"({status}" in run.said[0] and "instead" in run.said[1]
    assert len(server.asked) == 2, "asked once: it does not pass"


def test_the_mirror_of_the_command_line_is_asked_for_the_same_path(
    tmp_path, server, weights
) -> None:
    server.paths["/owner/repo/resolve/main/v2.pth"] = Served(weights)
    other = FileServer()
    run = Run(tmp_path, Hosts(mirror=server.url))
    try:
        assert run(of(f"{other.url}/owner/repo/resolve/main/v2.pth")) == weights
    finally:
        other.close()
    assert "404" in run.said[0]


def test_a_host_that_does_not_answer_is_asked_once(tmp_path, server, weights) -> None:
    dead = FileServer()
    dead.close()
    server.paths["/a"] = Served(weights)
    run = Run(tmp_path, Hosts(mirror=server.url))
    assert run(of(f"{dead.url}/a")) == weights
    count = len(run.said)
    run.target.unlink()
    assert run(of(f"{dead.url}/a")) == weights
    assert len(run.said) == count


@pytest.mark.parametrize(
    ("body", "sha256", "words"),
    [
        (PAGE, "", "it is a web page"),
        (PAGE, "0" * 64, "it is a web page"),
        (b"PK" + bytes(5000), "", "v2.pth"),
        (b"", "", "is empty"),
        (None, "0" * 64, "expected 0000"),
    ],
    ids=["page", "page, digest known", "rubbish", "empty", "another version"],
)
def test_what_is_not_the_file_is_removed_and_told(
    run, server, weights, body, sha256, words
) -> None:
    server.paths["/a"] = Served(weights if body is None else body)
    with pytest.raises(FetchError, match=words) as error:
        run(of(f"{server.url}/a", sha256))
    assert "sent something else, which is removed" in str(error.value)
    assert not run.left


def test_another_network_is_not_taken_for_the_file(run, server) -> None:
    import io

    import torch

    file = io.BytesIO()
    torch.save({"a.lora_up.weight": torch.zeros(1)}, file)
    server.paths["/a"] = Served(file.getvalue())
    with pytest.raises(FetchError, match="this is a LoRA"):
        run(of(f"{server.url}/a"))
    assert not run.left


def test_the_digest_that_hugging_face_says_on_the_way_counts(run, server, weights) -> None:
    server.paths |= {
        "/a": Served(weights, to=f"{server.url}/store", sha256=True),
        "/store": Served(weights),
    }
    assert run(of(f"{server.url}/a")) == weights
    server.paths["/store"] = Served(weights[:-1] + b"?")
    run.target.unlink()
    with pytest.raises(FetchError, match=f"expected {digest(weights)}"):
        run(of(f"{server.url}/a"))


def test_a_length_that_is_not_true_never_makes_half_a_file(run, server, weights) -> None:
    server.paths["/a"] = Served(weights, claims=len(weights) - 500)
    with pytest.raises(FetchError, match=r"not whole|damaged|cut off"):
        run(of(f"{server.url}/a"))
    assert not run.left
    server.paths["/a"] = Served(weights, claims=len(weights) + 500, ranges=False)
    with pytest.raises(FetchError, match=r"the connection ended after [\d,]+ of"):
        run(of(f"{server.url}/a"))
    assert not run.target.exists()
    server.paths["/a"] = Served(weights, claims=len(weights) + 500)
    assert run(of(f"{server.url}/a")) == weights, "asked for the rest, it says its true length"


def test_what_passes_is_waited_out(run, server, weights, monkeypatch) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        server.paths["/a"] = Served(weights)

    monkeypatch.setattr(download_module, "time", types.SimpleNamespace(sleep=sleep))
    server.paths["/a"] = Served(status=503)
    assert run(of(f"{server.url}/a")) == weights
    assert len(waited) == 1


def test_a_redirection_away_from_https_is_not_followed(server) -> None:
    from urllib.request import Request

    from restoration.tools.weights.get.errors import RefusedError
    from restoration.tools.weights.get.http import _Redirects

    with pytest.raises(RefusedError, match="not https: not followed"):
        _Redirects().redirect_request(
            Request("https://a/b"),
            None,
            302,
            "",
            {},
            "http://c/d",  # type: ignore[arg-type]
        )


def test_a_disk_without_room_is_told_before_and_while_it_fills(
    run, server, weights, monkeypatch
) -> None:
    server.paths["/a"] = Served(weights)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(download_module.shutil, "disk_usage", lambda path: usage(9, 9, 5))
        with pytest.raises(DiskError, match=r"has 0.0 GB free, and .* are still to come"):
            run(of(f"{server.url}/a"))
    assert not run.left
    written = Part.append

    def full(part: Part, file, data: bytes) -> None:
        class Full:
            def write(self, data: bytes) -> None:
                file.write(data[:100])
                file.flush()
                raise OSError(errno.ENOSPC, "No space left on device")

        written(part, Full(), data)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Part, "append", full)
        with pytest.raises(DiskError, match=r"is full\. What has arrived is kept"):
            run(of(f"{server.url}/a"))
    assert not run.target.exists() and run.left
    assert run(of(f"{server.url}/a")) == weights
    assert server.asked[-1][2] == "bytes=100-"


def test_a_file_that_is_there_is_never_replaced(run, server, weights) -> None:
    server.paths["/a"] = Served(weights)
    run.target.parent.mkdir()
    run.target.write_text("mine")
    with pytest.raises(InTheWayError, match="it stays as it is"):
        run(of(f"{server.url}/a"))
    assert run.target.read_text() == "mine"


def test_google_drive_is_asked_through_gdown_or_by_hand(run, weights, monkeypatch, server) -> None:
    file = of("https://drive.google.com/file/d/abc-1/view", how="Open it in a browser.")
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(FetchError, match=r"no direct address. Open it in a browser\. Or pip inst"):
        run(file)

    def download(id: str, output: str, **_: object) -> str:
        assert id == "abc-1"
        Path(output).write_bytes(weights)
        return output

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=download))
    assert run(file) == weights
    run.target.unlink()

    names: list[str] = []

    def folder(id: str, skip_download: bool, **_: object) -> list[types.SimpleNamespace]:
        assert id == "xyz" and skip_download
        return [types.SimpleNamespace(id="abc-1", path=f"f/{name}") for name in names]

    both = types.SimpleNamespace(download=download, download_folder=folder)
    monkeypatch.setitem(sys.modules, "gdown", both)
    inside = of("https://drive.google.com/drive/folders/xyz?usp=drive_link", how="By hand.")
    with pytest.raises(FetchError, match=r"holds no v2\.pth any more\. By hand\."):
        run(inside)
    names += ["other.pth", NAME]
    assert run(inside) == weights
    run.target.unlink()
    page = of("https://example.com/page", how="Ask there.", mirror=f"{server.url}/a")
    server.paths["/a"] = Served(weights)
    assert run(page) == weights and "Ask there." in " ".join(run.said)


def test_two_processes_do_not_fetch_the_same_file(run, server, weights) -> None:
    from restoration.tools.weights.get.part import holding

    server.paths["/a"] = Served(weights)
    with holding(run.target), pytest.raises(InTheWayError, match="by another process"):
        run(of(f"{server.url}/a"))


def test_huggingface_hub_brings_it_where_it_is_installed(tmp_path, server, weights) -> None:
    pytest.importorskip("huggingface_hub", reason=NO_HUB)
    path = "/owner/repo/resolve/main/folder/v2.pth"
    file = of(f"https://huggingface.co{path}")
    run = Run(tmp_path, Hosts(endpoint=server.url))
    server.paths[path] = Served(weights, sha256=True)
    assert run(file) == weights and run.left == [NAME] and not run.said
    assert any("hf_hub" in str(asked) for asked in server.headers)
    run.target.unlink()
    server.paths[path] = Served(status=401)
    with pytest.raises(FetchError, match="asks for a login"):
        run(file)


def test_what_huggingface_hub_cannot_do_is_done_without_it(
    tmp_path, server, weights, monkeypatch
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason=NO_HUB)
    path = "/owner/repo/resolve/main/v2.pth"
    file = of(f"https://huggingface.co{path}")
    server.paths[path] = Served(weights, sha256=True)
    run = Run(tmp_path, Hosts(endpoint=server.url))

    def nothing(*_: object, local_dir: Path, **__: object) -> str:
        (local_dir / "notes").mkdir(parents=True)
        raise RuntimeError("of another version")

    def some(*_: object, local_dir: Path, **__: object) -> str:
        local_dir.mkdir(parents=True, exist_ok=True)
        (local_dir / "a.incomplete").write_bytes(b"some")
        raise ConnectionError("cut")

    monkeypatch.setattr(hub, "hf_hub_download", nothing)
    assert run(file) == weights and run.left == [NAME]
    run.target.unlink()
    monkeypatch.setattr(hub, "hf_hub_download", some)
    with pytest.raises(FetchError, match=r"\(cut\).* goes on from there"):
        run(file)
    assert [path.name for path in run.target.parent.rglob("*.incomplete")] == ["a.incomplete"]


@pytest.mark.parametrize("as_mirror", [False, True])
def test_the_users_token_never_goes_to_a_mirror(
    tmp_path, server, weights, monkeypatch, as_mirror
) -> None:
    pytest.importorskip("huggingface_hub", reason=NO_HUB)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    path = "/owner/repo/resolve/main/v2.pth"
    server.paths[path] = Served(weights, sha256=True)
    other = FileServer()
    hosts = Hosts(other.url, server.url) if as_mirror else Hosts(server.url)
    try:
        assert Run(tmp_path, hosts)(of(f"https://huggingface.co{path}")) == weights
    finally:
        other.close()
    assert any("hf_hub" in str(asked) for asked in server.headers)
    assert ("hf_secret" in str(server.headers)) == (not as_mirror)


def test_hosts_know_what_huggingface_hub_calls_a_file(monkeypatch) -> None:
    hosts = Hosts(endpoint="https://huggingface.co", mirror="https://mirror.example")
    path = "/spaces/owner/repo/resolve/main/a%20b.pth"
    own, other = (hosts.hub(f"{host}{path}") for host in (hosts.endpoint, hosts.mirror))
    assert own and own.trusted and (own.kind, own.file) == ("space", "a b.pth")
    assert other and not other.trusted
    assert hosts.hub("https://github.com/owner/repo/resolve/main/x") is None
