"""Finds ComfyUI installations and drives one of them without a window.

Used by the demo, the server and browser tests and the benches. Only the standard library is
needed; progress over the websocket uses aiohttp, which every ComfyUI installs, and falls back to
polling without it. `python scripts/comfy_host.py` lists the hosts found.
"""

# ruff: noqa: T201
from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import mimetypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Literal

# Not resolved: a pack linked into a custom_nodes folder still sees that folder as its own place.
PACK_ROOT = Path(os.path.abspath(__file__)).parents[1]
LOCAL_HOSTS = PACK_ROOT / ".comfy"
"""Where `scripts/setup_env.py` installs a host when the machine has none (ignored by git)."""

FRONTEND_PACKAGE = "comfyui-frontend-package"
COPY_IGNORES = (".*", "output", "__pycache__", "tests", "*.pyc")

Prompt = dict[str, dict[str, Any]]
"""A workflow in ComfyUI's API form: node id -> {class_type, inputs}."""


class HostError(RuntimeError):
    """ComfyUI could not be found, started or reached; the message is one sentence and a log tail."""


class PromptError(RuntimeError):
    """ComfyUI refused a workflow or a node of it failed; the message names the node."""

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = dict(details or {})


# -- finding ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """One ComfyUI checkout."""

    path: Path
    version: str
    found_by: str
    """Which place of the search order it was found in, for messages."""

    @property
    def key(self) -> tuple[int, ...]:
        """The version as a sortable tuple."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)[:3])

    @property
    def requirements(self) -> Path:
        """The host's own requirements file."""
        return self.path / "requirements.txt"

    def pinned(self, package: str) -> str | None:
        """The version that the host's requirements pin a package to, or None."""
        match = re.search(
            rf"^{re.escape(package)}==([^\s;#]+)", self.requirements.read_text("utf-8"), re.M
        )
        return match[1] if match else None

    def __str__(self) -> str:
        return f"ComfyUI {self.version} ({self.path})"


def read_host(path: Path, found_by: str) -> Host | None:
    """The host in a folder, or None when the folder holds no ComfyUI."""
    if not (path / "main.py").is_file() or not (path / "comfy").is_dir():
        return None
    version_file = path / "comfyui_version.py"
    text = version_file.read_text("utf-8") if version_file.is_file() else ""
    match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", text)
    return Host(path.resolve(), match[1] if match else "unknown version", found_by)


def find_host(pack_root: Path = PACK_ROOT, environ: Mapping[str, str] = os.environ) -> Host | None:
    """The first host in the search order of docs/testing.md, or None.

    Order: COMFYUI_PATH; the ComfyUI whose custom_nodes folder holds the pack; ~/comfy/ComfyUI; one
    installed by the set-up under .comfy. A COMFYUI_PATH without a ComfyUI raises HostError.
    """
    if named := environ.get("COMFYUI_PATH"):
        return _named_host("COMFYUI_PATH", named)
    places = [
        (_home(environ) / "comfy" / "ComfyUI", "comfy-cli's folder in the home directory"),
        (pack_root / ".comfy" / "ComfyUI", "installed by the set-up"),
    ]
    if pack_root.parent.name == "custom_nodes":
        places.insert(0, (pack_root.parent.parent, "the custom_nodes folder the pack lies in"))
    return next((host for place in places if (host := read_host(*place))), None)


def find_newer_host(environ: Mapping[str, str] = os.environ) -> Host | None:
    """The second host: COMFYUI_PATH_LATEST, else ~/comfy/ComfyUI-latest, or None."""
    if named := environ.get("COMFYUI_PATH_LATEST"):
        return _named_host("COMFYUI_PATH_LATEST", named)
    return read_host(_home(environ) / "comfy" / "ComfyUI-latest", "the home directory")


def find_hosts(pack_root: Path = PACK_ROOT, environ: Mapping[str, str] = os.environ) -> list[Host]:
    """All hosts found, each once, oldest version first."""
    found = [find_host(pack_root, environ), find_newer_host(environ)]
    unique = {host.path: host for host in reversed(found) if host}
    return sorted(unique.values(), key=lambda host: host.key)


def find_chromium() -> Path | None:
    """The system's Chromium (or Chrome), or None. CHROMIUM_PATH overrides."""
    if named := os.environ.get("CHROMIUM_PATH"):
        return Path(named)
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    mac = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    return Path(found) if found else mac if mac.exists() else None


def find_frontend(host: Host, prefix: Path = Path(sys.prefix)) -> Path | None:
    """The folder with the front end that the host pins, or None when that version is missing.

    Looks beside the interpreter (`<venv>/frontends/<version>`, where the set-up puts one per host),
    then at the installed package.
    """
    wanted = host.pinned(FRONTEND_PACKAGE)
    if wanted is None:
        return None
    static = prefix / "frontends" / wanted / "comfyui_frontend_package" / "static"
    if (static / "index.html").is_file():
        return static
    with contextlib.suppress(metadata.PackageNotFoundError):
        installed = metadata.distribution(FRONTEND_PACKAGE)
        static = Path(str(installed.locate_file("comfyui_frontend_package"))) / "static"
        if installed.version == wanted and (static / "index.html").is_file():
            return static
    return None


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def _named_host(variable: str, value: str) -> Host:
    if host := read_host(Path(value).expanduser(), variable):
        return host
    raise HostError(
        f"{variable} is {value!r}, which holds no ComfyUI (no main.py and comfy folder there): "
        "set it to a ComfyUI checkout or unset it."
    )


# -- running ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """One step of a running workflow."""

    node: str
    """Id of the node at work."""
    value: float
    maximum: float
    """`value` of `maximum` steps are done; 0 of 0 when the node has just started."""


@dataclass(frozen=True)
class ImageRef:
    """An image in ComfyUI's output, temp or input folder."""

    node: str
    filename: str
    subfolder: str
    type: str


@dataclass(frozen=True)
class Result:
    """What a workflow left behind."""

    prompt_id: str
    outputs: dict[str, dict[str, Any]]
    seconds: float

    def images(self, kind: Literal["output", "temp"] | None = None) -> list[ImageRef]:
        """The images that nodes saved (kind "output") or previewed (kind "temp"), in node order."""
        refs = [
            ImageRef(node, image["filename"], image.get("subfolder", ""), image.get("type", ""))
            for node, output in sorted(self.outputs.items())
            for image in output.get("images", [])
        ]
        return [ref for ref in refs if kind in (None, ref.type)]


def free_port() -> int:
    """A TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy_pack(target: Path, pack_root: Path = PACK_ROOT) -> Path:
    """Copies what a user's installation of the pack holds; returns the copy."""
    return shutil.copytree(pack_root, target, ignore=shutil.ignore_patterns(*COPY_IGNORES))


def register_pack() -> None:
    """Makes the repository importable as `restoration`; its root must not lie on sys.path."""
    if "restoration" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "restoration", PACK_ROOT / "__init__.py", submodule_search_locations=[str(PACK_ROOT)]
    )
    assert spec and spec.loader
    module = sys.modules["restoration"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def read_prompt(path: Path) -> Prompt:
    """A workflow in API form from a file."""
    prompt = json.loads(path.read_text("utf-8"))
    if not all(isinstance(node, dict) and "class_type" in node for node in prompt.values()):
        raise PromptError(f"{path.name} is no workflow in API form: export it with Save (API).")
    return prompt


@dataclass
class ComfyClient:
    """A running ComfyUI, driven over HTTP."""

    url: str
    """Without a slash at the end."""

    # Requests

    def request(
        self,
        path: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float = 60.0,
    ) -> bytes:
        """GET, or POST when there is a body; raises urllib's HTTPError for an error status."""
        headers = {"Content-Type": content_type} if body is not None else {}
        request = urllib.request.Request(self.url + path, data=body, headers=headers)
        # No proxy: the server is on this machine or near it.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=timeout) as response:
            return response.read()

    def get_json(self, path: str, timeout: float = 60.0) -> Any:
        """The parsed answer to a GET."""
        return json.loads(self.request(path, timeout=timeout))

    def post_json(self, path: str, body: object, timeout: float = 60.0) -> Any:
        """The parsed answer to a POST of JSON; None when the answer is empty."""
        answer = self.request(path, json.dumps(body).encode(), timeout=timeout)
        return json.loads(answer) if answer else None

    def object_info(self) -> dict[str, dict[str, Any]]:
        """Every node the server knows."""
        return self.get_json("/object_info")

    def upload(self, data: bytes, name: str) -> str:
        """Puts an image into the input folder; returns the name that LoadImage takes."""
        boundary = uuid.uuid4().hex
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        body = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        ).encode() + data
        body += (
            f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue'
            f"\r\n--{boundary}--\r\n"
        ).encode()
        answer = self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}")
        stored = json.loads(answer)
        return "/".join(filter(None, (stored.get("subfolder"), stored["name"])))

    def fetch(self, image: ImageRef) -> bytes:
        """The bytes of an image a workflow made."""
        query = {"filename": image.filename, "subfolder": image.subfolder, "type": image.type}
        return self.request(f"/view?{urllib.parse.urlencode(query)}")

    def interrupt(self) -> None:
        """Stops the workflow at work."""
        self.request("/interrupt", b"{}")

    def cancel(self, prompt_id: str) -> None:
        """Takes one workflow out of the queue or stops it; no other one is touched."""
        self.post_json("/queue", {"delete": [prompt_id]})
        self.post_json("/interrupt", {"prompt_id": prompt_id})

    # What a server of our own knows more about

    def check_alive(self) -> None:
        """Raises HostError when the server is known to have stopped."""

    def failure(self, what: str) -> HostError:
        """An error about the server, in one sentence."""
        return HostError(f"ComfyUI at {self.url} {what}.")

    # Workflows

    def submit(self, prompt: Prompt, client_id: str | None = None) -> str:
        """Queues a workflow and returns its id; raises PromptError when the server refuses it.

        ComfyUI runs what it can of a workflow with several outputs; here any refusal is one.
        """
        body = {"prompt": prompt, "client_id": client_id or uuid.uuid4().hex}
        try:
            answer = self.post_json("/prompt", body)
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read() or b"{}")
            raise PromptError(refusal_sentence(answer, prompt), answer) from None
        if answer.get("node_errors"):
            self.post_json("/queue", {"delete": [answer["prompt_id"]]})
            raise PromptError(refusal_sentence(answer, prompt), answer)
        return answer["prompt_id"]

    def run(
        self,
        prompt: Prompt,
        progress: Callable[[Progress], None] | None = None,
        timeout: float = 600.0,
    ) -> Result:
        """Runs a workflow to its end; raises PromptError when it is refused, fails or is stopped."""
        started = time.monotonic()
        client_id = uuid.uuid4().hex
        with _events(self.url, client_id) if progress else contextlib.nullcontext() as events:
            prompt_id = self.submit(prompt, client_id)
            try:
                entry = self._follow(prompt_id, events, progress, started + timeout)
            except KeyboardInterrupt:
                self.cancel(prompt_id)
                raise
        status = entry.get("status", {})
        if status.get("status_str") != "success":
            raise PromptError(failure_sentence(status), status)
        return Result(prompt_id, entry["outputs"], time.monotonic() - started)

    def wait(self, prompt_id: str, timeout: float = 600.0) -> dict[str, Any]:
        """The history entry of a submitted workflow once it has ended, well or not."""
        return self._follow(prompt_id, None, None, time.monotonic() + timeout)

    def _follow(
        self,
        prompt_id: str,
        events: Queue[dict[str, Any]] | None,
        progress: Callable[[Progress], None] | None,
        deadline: float,
    ) -> dict[str, Any]:
        next_look, pause = 0.0, 0.05
        while True:
            ended = False
            if events is not None and progress is not None:
                with contextlib.suppress(Empty):
                    ended = _report(events.get(timeout=0.2), prompt_id, progress)
            else:
                time.sleep(pause)
                pause = min(pause * 1.5, 0.5)
            if not ended and time.monotonic() < next_look:
                continue
            if entry := self.get_json(f"/history/{prompt_id}").get(prompt_id):
                return entry
            next_look = time.monotonic() + (0.05 if events is None else 0.5)
            self.check_alive()
            if time.monotonic() > deadline:
                self.cancel(prompt_id)
                raise self.failure("did not finish the workflow in time")


@dataclass
class ComfyServer(ComfyClient):
    """A ComfyUI on this machine with the pack installed, for the length of a `with` block.

    The server has its own empty base folder, which is removed at the end; nothing is written into
    the host's checkout but Python's byte code.
    """

    host: Host
    pack_root: Path = PACK_ROOT
    folder_name: str = "diffusion-restoration"
    """Name of the pack's folder under custom_nodes."""
    install: Literal["symlink", "copy", "none"] = "symlink"
    frontend: Path | None = None
    """Front end to serve; None serves an empty page, which is enough without a browser."""
    python: str = field(default_factory=lambda: os.environ.get("COMFYUI_PYTHON", sys.executable))
    extra_arguments: Sequence[str] = ()
    start_timeout: float = 600.0
    cpu: bool = True
    """False lets ComfyUI choose its device."""

    base: Path = field(init=False)
    url: str = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __enter__(self) -> ComfyServer:
        self.base = Path(tempfile.mkdtemp(prefix="comfy-host-"))
        try:
            self._prepare_base()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Life cycle

    @property
    def pack_path(self) -> Path:
        """Where the pack lies in this server's custom_nodes folder."""
        return self.base / "custom_nodes" / self.folder_name

    def _prepare_base(self) -> None:
        for name in ("custom_nodes", "input", "output", "temp", "user", "models", "empty"):
            (self.base / name).mkdir()
        (self.base / "empty" / "index.html").write_text("<!doctype html><title>ComfyUI</title>")
        example = self.host.path / "input" / "example.png"
        if example.is_file():
            shutil.copy(example, self.base / "input")
        if self.install == "symlink":
            self.pack_path.symlink_to(self.pack_root, target_is_directory=True)
        elif self.install == "copy":
            copy_pack(self.pack_path, self.pack_root)

    def _start(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            self.python, str(self.host.path / "main.py"), *(["--cpu"] if self.cpu else []),
            "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(self.base),
            "--disable-auto-launch", "--disable-api-nodes", "--dont-print-server",
            "--database-url", "sqlite:///:memory:",
            "--front-end-root", str(self.frontend or self.base / "empty"),
            *self.extra_arguments,
        ]  # fmt: skip
        environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        with (self.base / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.host.path, stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, env=environ, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + self.start_timeout
        while True:
            if (code := self._process.poll()) is not None:
                raise self.failure(f"stopped while starting (exit code {code})")
            with contextlib.suppress(OSError, ValueError):
                self.get_json("/system_stats", timeout=5)
                return
            if time.monotonic() > deadline:
                raise self.failure(f"did not answer within {self.start_timeout:.0f} s")
            time.sleep(0.1)

    def check_alive(self) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            raise self.failure(f"stopped while the workflow ran (exit code {code})")

    def failure(self, what: str) -> HostError:
        tail = "\n".join(self.log().splitlines()[-25:])
        return HostError(f"ComfyUI {self.host.version} {what}. The end of its log:\n{tail}")

    def close(self) -> None:
        """Stops the server and removes its base folder; harmless when called twice."""
        if (process := self._process) is not None:
            windows = sys.platform == "win32"  # where SIGTERM ends it, and no other is known
            for number in (signal.SIGTERM,) if windows else (signal.SIGINT, signal.SIGTERM):
                if process.poll() is not None:
                    break
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait(10)
            self._process = None
        shutil.rmtree(self.base, ignore_errors=True)

    def log(self) -> str:
        """Everything the server has printed so far."""
        path = self.base / "server.log"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def pack_nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes that come from the pack's folder."""
        module = f"custom_nodes.{self.folder_name}"
        nodes = self.object_info().items()
        return {name: info for name, info in nodes if info.get("python_module") == module}


def _report(event: dict[str, Any], prompt_id: str, progress: Callable[[Progress], None]) -> bool:
    """Passes an event on; True when it says that the workflow has ended."""
    kind, data = event.get("type"), event.get("data") or {}
    if data.get("prompt_id") not in (None, prompt_id):
        return False
    if kind == "progress":
        progress(Progress(str(data.get("node")), data["value"], data["max"]))
    elif kind == "executing" and data.get("node") is not None:
        progress(Progress(str(data["node"]), 0, 0))
    return kind in ("execution_success", "execution_error", "execution_interrupted")


@contextlib.contextmanager
def _events(url: str, client_id: str) -> Iterator[Queue[dict[str, Any]] | None]:
    """The server's messages for one client as a queue, or None when aiohttp is not installed."""
    try:
        import aiohttp
    except ImportError:
        yield None
        return
    events: Queue[dict[str, Any]] = Queue()
    connected, stop = threading.Event(), threading.Event()

    async def listen() -> None:
        address = f"{url}/ws?clientId={client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket_:
            connected.set()
            while not stop.is_set():
                try:
                    message = await socket_.receive(timeout=0.2)
                except asyncio.TimeoutError:
                    continue
                if message.type == aiohttp.WSMsgType.TEXT:
                    events.put(json.loads(message.data))
                elif message.type != aiohttp.WSMsgType.BINARY:
                    return

    def target() -> None:
        # Losing the socket loses progress only: the history is polled as well.
        with contextlib.suppress(aiohttp.ClientError, OSError):
            asyncio.run(listen())
        connected.set()  # whatever happened: nobody waits for it any more

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    connected.wait(10)
    try:
        yield events
    finally:
        stop.set()
        thread.join(5)


# -- sentences -------------------------------------------------------------------------------------


def refusal_sentence(answer: Mapping[str, Any], prompt: Prompt) -> str:
    """Why the server refused a workflow, in one sentence, from its answer to POST /prompt."""
    reasons = []
    for node, problem in (answer.get("node_errors") or {}).items():
        name = problem.get("class_type") or prompt.get(node, {}).get("class_type", "?")
        for error in problem.get("errors", []):
            details = error.get("details") or ""
            reasons.append(f"{name} (node {node}): {error['message']} {details}".strip())
    if not reasons:
        problem = answer.get("error")
        error: dict[str, Any] = problem if isinstance(problem, dict) else {"message": problem}
        parts = [error.get("message"), error.get("details")]
        kind = (error.get("extra_info") or {}).get("class_type")
        if kind and not any(kind in (part or "") for part in parts):
            parts.append(f"({kind})")  # newer hosts name the node by its title only
        reasons = [" ".join(dict.fromkeys(part for part in parts if part)) or "no reason given"]
    return f"ComfyUI refused the workflow: {'; '.join(reasons)}"


def failure_sentence(status: Mapping[str, Any]) -> str:
    """Why a workflow failed, in one sentence, from the status of its history entry."""
    for kind, data in status.get("messages", []):
        if kind == "execution_error":
            message = str(data.get("exception_message", "")).strip()
            return f"{data.get('node_type')} (node {data.get('node_id')}) failed: {message}"
        if kind == "execution_interrupted":
            return f"The workflow was interrupted at {data.get('node_type')}."
    return "The workflow failed and ComfyUI gave no reason."


def main() -> int:
    """Prints the hosts found, one per line: version, path, how it was found."""
    try:
        hosts = find_hosts()
    except HostError as error:
        print(error, file=sys.stderr)
        return 2
    for host in hosts:
        print(f"{host.version}\t{host.path}\t{host.found_by}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
