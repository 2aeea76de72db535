"""The ComfyUI that does the work: one that runs, or one of our own."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from ...registry import files
from ..comfyui.client import ComfyClient, Stopped
from ..comfyui.find import PACK_ROOT, HostError, read_host
from ..comfyui.process import ComfyServer
from ..shipped import find_shipped
from .errors import UsageError
from .guard import Guard
from .workflow import Job

USUAL = "http://127.0.0.1:8188"
"""Where ComfyUI listens unless it is told otherwise."""
CRASHES = 2
"""In a row, after which a server of our own is not started again."""


def _model_paths(comfyui: Path) -> dict[str, dict[str, str]]:
    """ComfyUI's own models and custom nodes, in the words of extra_model_paths.yaml: a server of
    ours has a base folder of its own, so that its outputs and inputs vanish with it."""
    kinds = sorted(path.name for path in (comfyui / "models").glob("*") if path.is_dir())
    places = {kind: f"models/{kind}" for kind in kinds}
    if (comfyui / "custom_nodes").is_dir():
        places["custom_nodes"] = "custom_nodes"
    return {"comfyui": {"base_path": str(comfyui), **places}}


def _holds_pack(comfyui: Path) -> bool:
    nodes = comfyui / "custom_nodes"
    return nodes.is_dir() and any(p.resolve() == PACK_ROOT.resolve() for p in nodes.iterdir())


class Server:
    """The ComfyUI that does the work: one that runs, or one of our own that may be restarted."""

    def __init__(self, client: ComfyClient, ours: ComfyServer | None = None) -> None:
        self.client = client
        self.comfyui = ""
        """Its version, once it has answered."""
        self._ours = ours
        self._crashes = 0

    @property
    def folder(self) -> Path | None:
        """Of a server of our own: vanishes with it."""
        return self._ours.base if self._ours is not None else None

    def version(self) -> str:
        """ComfyUI's. Raises HostError when it does not answer."""
        try:
            stats = self.client.get_json("/system_stats", 30)
            self.comfyui = str(stats["system"]["comfyui_version"])
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise HostError(
                f"No ComfyUI answers at {self.client.url} ({error}): start it, correct --server, "
                "or let --comfyui start one."
            ) from error
        return self.comfyui

    def succeeded(self) -> None:
        """Forgets earlier crashes."""
        self._crashes = 0

    def recover(self) -> bool:
        """After an error: returns when the server answers, else HostError. A server of our own is
        started again, but not for ever; False: it was. Stopped: nobody wants it any more."""
        try:
            self.version()
        except HostError:
            if self.client.stopping.is_set():
                raise Stopped from None
            self._crashes += 1
            if self._ours is None or self._crashes >= CRASHES:
                raise
            self._ours.close()
            self._ours.__enter__()
            return False
        return True


class OwnServer(ComfyServer):
    """A ComfyUI with its own models and custom nodes, which ends with this process, also when that
    is killed: it would keep its memory for ever, and the next run would lack it."""

    arguments: Sequence[str] = ()
    """What the command line hands on to ComfyUI's."""
    _guard: Guard | None = None

    def _prepare_base(self) -> None:
        self._guard = Guard(self.base)
        super()._prepare_base()
        paths = self.base / "folders.yaml"
        paths.write_text(json.dumps(_model_paths(self.host.path)), "utf-8")  # which is YAML, too
        self.extra_arguments = ["--extra-model-paths-config", str(paths), *self.arguments]

    def _launch(self) -> None:
        super()._launch()
        assert self._guard is not None and self._process is not None
        self._guard.add(self._process.pid)

    def failure(self, what: str) -> HostError:
        error = super().failure(what)
        return error if self.cpu else HostError(f"{error}\nA machine without a card needs --cpu.")

    def close(self) -> None:
        with _undisturbed():
            try:
                super().close()
            finally:
                if self._guard is not None:
                    self._guard.close()
                    self._guard = None


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """No Ctrl-C cuts the block short; the one that led here has been heard."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone hears it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def serving(comfyui: Path, arguments: Sequence[str], cpu: bool) -> Iterator[Server]:
    """A ComfyUI of our own, from the folder that it is installed in, for the length of the block.
    Raises UsageError, HostError."""
    host = read_host(comfyui, "--comfyui")
    if host is None:
        raise UsageError(f"{comfyui} holds no ComfyUI: --comfyui names its folder.")
    own = OwnServer(host, install="none" if _holds_pack(host.path) else "symlink", cpu=cpu)
    own.arguments = arguments
    sys.stderr.write(f"Starting ComfyUI {host.version} ...\n")
    with own:
        yield Server(own, own)


def running(address: str = "") -> Server:
    """A ComfyUI that somebody has started; without an address, where it usually is."""
    address = address or USUAL
    url = address if "://" in address else f"http://{address}"
    return Server(ComfyClient(url.rstrip("/")))


def check_needs(client: ComfyClient, job: Job, workflow: str) -> None:
    """Raises UsageError when the server lacks a node that the workflow needs, or a published file
    that it names. workflow: its file's name."""
    known = client.get_json("/object_info")
    lacking = sorted({s["class_type"] for s in job.prompt.values()} - known.keys())
    if lacking:
        raise UsageError(
            f"The server does not know {', '.join(lacking)}: install the node packs they belong to."
        )
    lacks = list(_missing_files(job, known))
    sentences = [
        f"The server has {other} in place of {name}: add {shlex.join(['--set', f'{place}={other}'])}."
        for place, name, other in lacks
        if other
    ]
    if missing := list(dict.fromkeys(name for _, name, other in lacks if not other)):
        found = find_shipped(workflow)
        whole = found is not None and found.models.issuperset(missing)
        names = [found.name] if found and whole else missing
        sentences.append(
            f"The server has no {', '.join(missing)}. Where ComfyUI runs, python -m tools get "
            f"{shlex.join(names)} fetches what is missing."
        )
    if sentences:
        raise UsageError("\n".join(sentences))


def _missing_files(job: Job, known: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(`node.input`, file, another format of it or another place that the server offers) of every
    published file that the workflow chooses and the server does not have under that name."""
    published = files()
    for node, spec in job.prompt.items():
        inputs = known[spec["class_type"]].get("input", {})
        described = {**inputs.get("required", {}), **inputs.get("optional", {})}
        for name, value in spec["inputs"].items():
            if isinstance(value, str) and value in published and name in described:
                offered = _choices(described[name])
                if offered is not None and value not in offered:
                    yield f"{node}.{name}", value, _like(value, offered)


def _like(name: str, offered: Sequence[str]) -> str:
    """The same file in another format or in a folder; empty: there is none."""
    stem = PurePosixPath(name).with_suffix("").parts
    stems = ((each, PurePosixPath(each).with_suffix("").parts) for each in offered)
    return next((each for each, parts in stems if parts[-len(stem) :] == stem), "")


def _choices(described: Any) -> list[str] | None:
    """What an input offers, with `/` between folders; None: it is no list to choose from."""
    kind, *more = described
    if kind == "COMBO":  # as nodes of the newer kind say it
        kind = more[0].get("options") if more else None
    return [str(each).replace("\\", "/") for each in kind] if isinstance(kind, list) else None
