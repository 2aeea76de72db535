"""The published files by their manifests: every key and shape, without the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

GOLDEN = Path(__file__).parent.parent.parent / "golden"


def manifest(name: str, group: str | None = None) -> dict[str, Tensor]:
    """The tensors of a published file on the meta device; group: only those of one group."""
    data = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    return {
        key: torch.empty(shape, device="meta", dtype=torch.long if kind == "int" else torch.float)
        for each, entries in data["groups"].items()
        if group in (None, each)
        for key, (shape, kind) in entries.items()
    }


def pickled_tables(name: str) -> dict[str, Any]:
    """What a published pickle of several tables holds, entries beside the tables included."""
    data = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    tables = {each: manifest(name, each) for each in data["groups"] if each.startswith("state_")}
    return {**data["entries"], **tables}


def shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in weights.items()}
