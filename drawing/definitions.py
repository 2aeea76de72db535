"""What a host says of its nodes."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Definitions = Mapping[str, Any]
"""Node classes of the host by id."""

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}

CORE_EXTRAS = (
    "nodes_custom_sampler.py",
    "nodes_upscale_model.py",
    "nodes_mask.py",
    "nodes_model_advanced.py",
    "nodes_morphology.py",
    "nodes_preview_any.py",
    "nodes_clip_sdxl.py",
    "nodes_train.py",
)


def host_definitions() -> dict[str, Any]:
    """Core's nodes, the extra ones that the workflows use, and ours. ComfyUI has been imported into
    this process."""
    core = importlib.import_module("nodes")
    for extra in CORE_EXTRAS:
        path = Path(inspect.getfile(core)).parent / "comfy_extras" / extra
        asyncio.run(core.load_custom_node(str(path), module_parent="comfy_extras"))
    from ..nodes import load_nodes

    ours = {node.define_schema().node_id: node for node in load_nodes()}
    return {**core.NODE_CLASS_MAPPINGS, **ours}


@dataclass(frozen=True)
class Input:
    """An input of a node."""

    name: str
    type: str
    options: dict[str, Any]
    optional: bool

    @property
    def is_widget(self) -> bool:
        return self.type in WIDGETS and not self.options.get("forceInput")


def inputs_of(kind: str, definitions: Definitions) -> list[Input]:
    """Every input of a node, in the host's order."""
    types = definitions[kind].INPUT_TYPES()
    found = []
    for group in ("required", "optional"):
        for name, spec in types.get(group, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            type_name = "COMBO" if isinstance(spec[0], list | tuple) else spec[0]
            found.append(Input(name, type_name, options, group == "optional"))
    return found


def defaults_of(kind: str, definitions: Definitions) -> dict[str, Any]:
    """What the widgets of a new node hold, of those that say it."""
    described = inputs_of(kind, definitions)
    return {each.name: each.options["default"] for each in described if "default" in each.options}


def is_ours(definition: Any) -> bool:
    """Whether a node class is the pack's."""
    return definition.__module__.startswith("restoration.") or "diffusion" in str(
        getattr(definition, "RELATIVE_PYTHON_MODULE", "")
    )
