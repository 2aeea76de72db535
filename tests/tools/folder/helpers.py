"""Photos to run and what a run has left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def photo(path: Path, color: int, size: tuple[int, int] = (24, 16)) -> Path:
    """Writes a gradient with a blue of its own."""
    gradient = Image.linear_gradient("L").resize(size)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.merge("RGB", [gradient, gradient.rotate(180), Image.new("L", size, color)]).save(path)
    return path


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of a manifest."""
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, hidden files too, but for the manifest."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.jsonl"
    }
