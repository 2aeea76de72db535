"""Every shipped workflow whose files are there, for two steps on a small picture, in a ComfyUI of our
own: does it run, how long, how much memory, and is a picture what comes out."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...common.text import first_sentence
from ..comfyui.client import ComfyClient, Prompt, PromptError, Result
from ..comfyui.find import HostError
from ..folder.errors import UsageError
from ..folder.server import Server, check_needs, serving
from ..folder.workflow import LOADS, load_workflow, make_job
from ..shipped import Shipped, shipped
from ..weights.choose import files_of

STEPS = 2
SIDE = 256
SIZES = ("width", "height")
NOT_A_NUMBER = "invalid value encountered in cast"
"""What NumPy says in ComfyUI's log when a picture with NaN is saved."""
POLL = 0.2
"""Seconds between two looks at the memory."""


@dataclass(frozen=True)
class Ran:
    """One workflow."""

    workflow: str
    state: Literal["passed", "failed", "not run"]
    why: str = ""
    seconds: float = 0.0
    """Loading its models included."""
    peak: int = 0
    """The most bytes in use on the device while it ran, by whatever programs."""
    size: str = ""
    """Of its first picture, width x height."""

    @property
    def passed(self) -> bool:
        return self.state != "failed"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def small(prompt: Prompt) -> Prompt:
    """The workflow with two steps wherever it takes more, without enlarging, at the small size. A
    count of 0, the authors', is more; 1 is a method of one step."""
    changed = {}
    for node, spec in prompt.items():
        inputs = dict(spec["inputs"])
        if type(inputs.get("steps")) is int and inputs["steps"] != 1:
            inputs["steps"] = STEPS
        if type(inputs.get("upscale_by")) in (int, float):
            inputs["upscale_by"] = 1.0
        for name in SIZES:
            if type(inputs.get(name)) is int and inputs[name] > SIDE:
                inputs[name] = SIDE
        changed[node] = {**spec, "inputs": inputs}
    return changed


def run_workflows(comfyui: Path, cpu: bool, there: Collection[str]) -> Iterator[Ran]:
    """Each as it ends. there: names of the published files that are installed and right. Raises
    HostError, UsageError where no ComfyUI starts."""
    ready = []
    for workflow in shipped():
        missing = [file.name for file in files_of(workflow) if file.name not in there]
        if missing:
            yield Ran(workflow.name, "not run", f"{len(missing)} of its files are not there")
        else:
            ready.append(workflow)
    with serving(comfyui, (), cpu) as server:
        for number, workflow in enumerate(ready):
            ran = _run(server.client, workflow)
            if ran.state == "failed" and not _alive(server):
                yield ran
                lost = "ComfyUI did not come back after the one before"
                yield from (Ran(each.name, "not run", lost) for each in ready[number + 1 :])
                return
            yield ran


def _alive(server: Server) -> bool:
    with contextlib.suppress(HostError):
        server.recover()
        return True
    return False


def _run(client: ComfyClient, workflow: Shipped) -> Ran:
    prompt = small(load_workflow(workflow.api))
    loads = [node for node, spec in prompt.items() if spec["class_type"] in LOADS]
    job = make_job(prompt, node=loads[0])
    try:
        check_needs(client, job, workflow.name)
        uploaded = client.upload(photo(), "check.png")
        for node in loads:
            job.prompt[node]["inputs"]["image"] = uploaded
        logged = _log(client).count(NOT_A_NUMBER)
        with memory_peak(client) as peak:
            result = client.run(job.prompt, timeout=3600)
        pictures = list(_pictures(client, result))
        silent = _log(client).count(NOT_A_NUMBER) == logged
    except UsageError as error:
        return Ran(workflow.name, "not run", str(error))
    except (HostError, PromptError, OSError, ValueError) as error:
        return Ran(workflow.name, "failed", first_sentence(error))
    finite = silent and all(picture.std() > 0 for picture in pictures)
    size = f"{pictures[0].shape[1]}x{pictures[0].shape[0]}" if pictures else ""
    why = "" if finite else "its picture has values that are not finite, or is of one color"
    state = "passed" if finite else "failed"
    return Ran(workflow.name, state, why, result.seconds, peak[0], size)


def photo(side: int = SIDE) -> bytes:
    """A PNG with edges, gradients and a little grain, the same every time."""
    from PIL import Image

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    planes = [x, y, ((8 * x).astype(int) + (8 * y).astype(int)) % 2]
    pixels = np.stack(planes, -1) * 200 + rng.normal(20, 5, (side, side, 3))
    packed = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(packed, "PNG")
    return packed.getvalue()


def _pictures(client: ComfyClient, result: Result) -> Iterator[np.ndarray]:
    from PIL import Image

    for each in result.images():
        with Image.open(io.BytesIO(client.fetch(each))) as picture:
            yield np.asarray(picture.convert("RGB"))


def _log(client: ComfyClient) -> str:
    """What a server of our own has said; another one keeps it to itself."""
    log = getattr(client, "log", None)
    return log() if log else ""


@contextlib.contextmanager
def memory_peak(client: ComfyClient) -> Iterator[list[int]]:
    """A list whose one number is, after the block, the most bytes that were in use on the device."""
    most, ended = [0], threading.Event()

    def look() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError, ValueError, LookupError):
                device = client.get_json("/system_stats", timeout=10)["devices"][0]
                most[0] = max(most[0], device["vram_total"] - device["vram_free"])
            ended.wait(POLL)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        ended.set()
        watcher.join(15)
