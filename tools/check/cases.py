"""The cases that come with the pack: what the authors' own code gave for networks whose weights are
drawn from their names, and for their formulas. `tests/golden/README.md` says how they were recorded."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Case:
    """One JSON and the safetensors file beside it."""

    path: Path
    data: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def config(self) -> dict[str, Any]:
        return self.data["config"]

    @property
    def key(self) -> tuple[str, str]:
        """The method and the part of it, by which a runner is found."""
        return self.data["method"], self.data["module"]

    @property
    def tolerance(self) -> float:
        """The largest absolute difference that is accepted in float32."""
        return self.data["tolerance"]

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        return load_file(self.path.with_suffix(".safetensors"))

    def weights(self) -> dict[str, Tensor]:
        """The network's, by the keys of the published file, float32."""
        seed, shapes = self.data["seed"], self.data["parameters"]
        return {name: drawn(seed, name, shape) for name, shape in shapes.items()}


def drawn(seed: int, name: str, shape: list[int]) -> Tensor:
    """The weight of a name, the same on every machine: NumPy's legacy generator never changes."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
    values = np.random.RandomState(int(digest[:8], 16)).standard_normal(tuple(shape))
    values = values.astype(np.float32)
    if len(shape) >= 2:
        values = values / np.float32(math.sqrt(math.prod(shape[1:])))
    elif name.endswith(".weight"):
        values = np.float32(1) + np.float32(0.1) * values
    else:
        values = np.float32(0.1) * values
    return torch.from_numpy(values)


def read_cases(folder: Path = CASES) -> list[Case]:
    """All cases below a folder, by name."""
    paths = sorted(folder.rglob("*.json"))
    return [Case(path, json.loads(path.read_text("utf-8"))) for path in paths]
