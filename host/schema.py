"""Schemas that use what the newest host offers and still load on the oldest."""

from __future__ import annotations

import inspect
from typing import Any

from comfy_api.latest import io

from ..common.fidelity import AUTHORS

RestoreInfoType = io.Custom("RESTORE_INFO")

_SCHEMA_FIELDS = inspect.signature(io.Schema).parameters


def schema(**fields: Any) -> io.Schema:
    """`io.Schema` without the fields this host does not know (search_aliases before 0.18)."""
    return io.Schema(**{name: value for name, value in fields.items() if name in _SCHEMA_FIELDS})


def fidelity_input(effect: str) -> io.Input:
    """`fidelity`, 0..1 (common/fidelity.py); at its default everything is as without it. effect:
    what the tooltip says of this node's own knob."""
    return io.Float.Input(
        "fidelity",
        default=AUTHORS,
        min=0.0,
        max=1.0,
        step=0.01,
        optional=True,
        tooltip=f"From 0, free, to 1, closest to the photo. 0.5 changes nothing. {effect}",
    )


def percent_range(start: str, end: str) -> list[io.Input]:
    """`start_percent` and `end_percent`, parts of the run in 0..1 as core's Apply ControlNet has
    them; at their defaults the whole run. start, end: tooltips."""
    ends = (("start_percent", 0.0, start), ("end_percent", 1.0, end))
    return [
        io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip)
        for name, default, tooltip in ends
    ]
