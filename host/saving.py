"""Networks as new files where their loaders look, with what made them in their heads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import folder_paths
from comfy.cli_args import args

from ..common.state_dict import StateDict
from ..common.weight_files import write_new
from .folders import register_folders
from .report import announce, quoted, size_text


@dataclass(frozen=True)
class Saved:
    """A network as its file."""

    kind: str
    """Of models: whose folder it goes to."""
    weights: StateDict
    metadata: Mapping[str, str] = field(default_factory=dict)
    loader: str = ""
    """Display name of the node that reads it, and which of its inputs."""


def save_network(saved: Saved, prefix: str, hidden: Any) -> Path:
    """The new file, numbered as core numbers what it saves. prefix: folder and beginning of its
    name, below that of its kind. hidden: the node's, for the head. Raises ValueError for a name
    that is none, and where the file cannot be written; nothing is left of it then."""
    register_folders()
    root = os.path.abspath(folder_paths.get_folder_paths(saved.kind)[0])
    name = Path(prefix)
    if not prefix.strip() or not name.name or name.anchor or ".." in name.parts or "\0" in prefix:
        raise ValueError(
            f"`filename_prefix` is {quoted(prefix)}, which names no file below {root}: give a name "
            "such as finetuned/scans, relative and without `..`."
        )
    from safetensors import SafetensorError

    try:
        folder, beginning, first, *_ = folder_paths.get_save_image_path(prefix.strip(), root)
        file = write_new(
            saved.weights,
            Path(folder),
            lambda number: f"{beginning}_{first + number:05}_.safetensors",
            {"format": "pt", **saved.metadata, **_workflow(hidden)},
        )
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"The network could not be written below {root} ({error}). Nothing is left of the file, "
            "and the network is still there: make room, or allow ComfyUI to write to that folder, and "
            "queue again."
        ) from error
    size = size_text(file.stat().st_size)
    announce(
        f"Saved {file.relative_to(root).as_posix()} ({size}) in {root}. Press R, then choose it in "
        f"{saved.loader}."
    )
    return file


def _workflow(hidden: Any) -> dict[str, str]:
    """The graph that made it, as core's own nodes keep it, unless the user has forbidden that."""
    if args.disable_metadata or hidden is None:
        return {}
    found = {} if hidden.prompt is None else {"prompt": json.dumps(hidden.prompt)}
    more: Mapping[str, Any] = hidden.extra_pnginfo or {}
    return found | {key: json.dumps(value) for key, value in more.items()}
