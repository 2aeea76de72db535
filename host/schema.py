"""Schemas that use what the newest host offers and still load on the oldest."""

from __future__ import annotations

import inspect
from typing import Any

from comfy_api.latest import io

RestoreInfoType = io.Custom("RESTORE_INFO")

_SCHEMA_FIELDS = inspect.signature(io.Schema).parameters


def schema(**fields: Any) -> io.Schema:
    """`io.Schema` without the fields this host does not know (search_aliases before 0.18)."""
    return io.Schema(**{name: value for name, value in fields.items() if name in _SCHEMA_FIELDS})
