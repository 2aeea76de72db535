"""Writes the shipped workflows, in the form for people and in the form for programs.

Both forms come from one description, so they cannot differ. Run after a node has changed:
python drawing workflows [COMFYUI_FOLDER]
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .graph import Definitions, Graph

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "workflows"
SUBGRAPHS = ROOT / "subgraphs"
"""Where ComfyUI looks for a pack's blueprints."""

METHODS = ("quick", "diffbir", "pasd", "seesr", "styleid")
"""Modules of the folder `workflows` beside this file, each with its `WORKFLOWS`."""


def workflows() -> dict[str, Callable[[Graph], None]]:
    """What is built, by name."""
    found: dict[str, Callable[[Graph], None]] = {}
    for method in METHODS:
        found |= importlib.import_module(f".workflows.{method}", __package__).WORKFLOWS
    return found


def build(name: str, definitions: Definitions) -> Graph:
    """A workflow by name, drawn with the node classes of a host."""
    from .graph import Graph

    graph = Graph(name, definitions)
    workflows()[name](graph)
    return graph


def write_all() -> None:
    from .blueprints import BLUEPRINTS, blueprint
    from .graph import dumped

    definitions = host_definitions()
    for name in workflows():
        graph = build(name, definitions)
        (FOLDER / f"{name}.json").write_text(dumped(graph.ui()), encoding="utf-8")
        (FOLDER / "api" / f"{name}.json").write_text(dumped(graph.api()), encoding="utf-8")
    for title, name in BLUEPRINTS.items():
        drawn = blueprint(title, build(name, definitions).ui())
        (SUBGRAPHS / f"{title}.json").write_text(dumped(drawn), encoding="utf-8")


CORE_EXTRAS = (
    "nodes_custom_sampler.py",
    "nodes_upscale_model.py",
    "nodes_mask.py",
    "nodes_model_advanced.py",
    "nodes_morphology.py",
    "nodes_preview_any.py",
    "nodes_clip_sdxl.py",
)


def host_definitions() -> dict[str, Any]:
    """Core's nodes, the extra ones that the workflows use, and ours."""
    import asyncio
    import inspect

    import nodes

    for extra in CORE_EXTRAS:
        path = Path(inspect.getfile(nodes)).parent / "comfy_extras" / extra
        asyncio.run(nodes.load_custom_node(str(path), module_parent="comfy_extras"))
    from ..nodes import load_nodes

    ours = {node.define_schema().node_id: node for node in load_nodes()}
    return {**nodes.NODE_CLASS_MAPPINGS, **ours}
