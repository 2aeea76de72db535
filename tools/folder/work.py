"""One picture through the workflow, from its file to the contents of its results."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..comfyui.client import Progress, PromptError, Result
from ..files import sha256
from .pictures import Picture, lr_psnr, read_picture, save_picture
from .saving import Task
from .server import Server

Record = dict[str, Any]
LOST = {"exif": "EXIF lost", "icc": "profile lost", "alpha": "transparency"}
"""What a note of `save_picture` says where one of them is not in the result."""


@dataclass(frozen=True)
class Made:
    """What became of a picture."""

    record: Record
    files: tuple[bytes, ...]
    """The contents of record["outputs"], in that order."""


def work(
    task: Task, server: Server, progress: Callable[[Progress], None] = lambda step: None
) -> Made:
    """Sends a picture through the workflow. Prints nothing and writes nothing.

    Raises PromptError, HostError, and whatever reading and writing pictures may raise.
    """
    picture, digest = _read(task.path)
    order, client = task.order, server.client
    suffix = picture.suffix if re.fullmatch(r"\.[a-z0-9]+", picture.suffix) else ""
    uploaded = client.upload(picture.data, f"folder_{digest[:16]}{suffix}")
    result = client.run(order.job.prompt_for(uploaded), progress, order.timeout)
    images = [client.fetch(image) for image in result.images("output")]
    if not images:
        raise PromptError("The workflow saved no image: it needs a Save Image node.")
    files, outputs, notes = [], [], []
    for number, data in enumerate(images, 1):
        saved = io.BytesIO()
        kind = order.saving.kind_for(task.path)
        (width, height), note = save_picture(data, picture, saved, kind, order.saving.quality)
        files.append(saved.getvalue())
        outputs.append(
            {
                "file": task.file(number, len(images)),
                "sha256": hashlib.sha256(files[-1]).hexdigest(),
                "width": width,
                "height": height,
            }
        )
        notes.append(note)
    lost = list(dict.fromkeys(filter(None, notes)))
    held = {"exif": picture.exif, "icc": picture.icc, "alpha": picture.alpha}
    record = {
        **task.identity(),
        "input_sha256": digest,
        "comfyui": server.comfyui,
        "outputs": outputs,
        "seconds": round(result.seconds, 3),
        "metrics": {
            "input_size": list(picture.size),
            "lr_psnr": lr_psnr(picture.pixels, [Image.open(io.BytesIO(data)) for data in images]),
            "texts": texts(result),
        },
        "kept": [
            word
            for word, there in held.items()
            if there is not None and not any(LOST[word] in note for note in lost)
        ],
        "notes": [*picture.notes, *lost],
        "status": "done",
    }
    return Made(record, tuple(files))


def _read(path: Path) -> tuple[Picture, str]:
    """A picture and the sha256 of its file, which somebody may be writing."""
    digest = sha256(path)
    picture = read_picture(path)
    if sha256(path) != digest:
        raise OSError(f"{path.name} changed while it was read: run the command again")
    return picture, digest


def texts(result: Result) -> dict[str, str]:
    """What nodes said, by their id: so figures of Restoration Metrics are in the manifest."""
    said = {node: output.get("text") for node, output in result.outputs.items()}
    return {
        node: text if isinstance(text, str) else "\n".join(map(str, text))
        for node, text in said.items()
        if text
    }
