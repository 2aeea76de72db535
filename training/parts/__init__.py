"""The parts that can be trained, one file each: `Model` (its own values) and `open_part`."""

from __future__ import annotations

import importlib
from typing import Any

PARTS = ("pasd", "stage1", "diffbir", "dape", "seesr", "dreambooth", "light")


def part_module(name: str) -> Any:
    """The file of a part: `Model`, a dataclass, and `open_part(config) -> Opened`."""
    return importlib.import_module(f".{name}", __name__)
