"""Drives a running ComfyUI over HTTP; progress over the websocket uses aiohttp, which every ComfyUI
installs, and falls back to polling without it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any, Literal

from .find import HostError

Prompt = dict[str, dict[str, Any]]
"""A workflow in ComfyUI's API form: node id -> {class_type, inputs}."""


class PromptError(RuntimeError):
    """ComfyUI refused a workflow or a node of it failed; the message names the node."""

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.details = dict(details or {})


class Stopped(KeyboardInterrupt):
    """The interrupt of a workflow that another thread waits for; `ComfyClient.stopping` asks for it."""


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
    stopping: threading.Event = field(
        default_factory=threading.Event, init=False, repr=False, compare=False
    )
    """Once set, whatever waits for a workflow here cancels it and raises Stopped."""

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
                if events is not None and progress is not None and not ended:
                    _report_rest(events, prompt_id, progress)
                return entry
            next_look = time.monotonic() + (0.05 if events is None else 0.5)
            if self.stopping.is_set():
                raise Stopped
            self.check_alive()
            if time.monotonic() > deadline:
                self.cancel(prompt_id)
                raise self.failure("did not finish the workflow in time")


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


def _report_rest(
    events: Queue[dict[str, Any]], prompt_id: str, progress: Callable[[Progress], None]
) -> None:
    """Passes on what is still on its way when the history, which is asked beside, knows the end first; a
    second without a message, and the socket is taken for lost."""
    with contextlib.suppress(Empty):
        while not _report(events.get(timeout=1.0), prompt_id, progress):
            pass


@contextlib.contextmanager
def _events(url: str, client_id: str) -> Iterator[Queue[dict[str, Any]] | None]:
    """The server's messages for one client as a queue; None when aiohttp is not installed, or the
    server or what lies between offers no websocket."""
    try:
        import aiohttp
    except ImportError:
        yield None
        return
    events: Queue[dict[str, Any]] = Queue()
    connected, stop = threading.Event(), threading.Event()
    refused = False

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
        nonlocal refused
        # Losing the socket loses progress only: the history is polled as well.
        with contextlib.suppress(aiohttp.ClientError, OSError):
            asyncio.run(listen())
        refused = not connected.is_set()
        connected.set()  # whatever happened: nobody waits for it any more

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    connected.wait(10)
    try:
        yield None if refused else events
    finally:
        stop.set()
        thread.join(5)


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
