"""A graph inside a node: what a recipe describes is put in the node's place by the host."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder

import nodes as host_nodes

from ..common.recipe import Graph
from .errors import inner_id


def raw(io_type: str, name: str, **fields: Any) -> io.Input:
    """A socket that gets the link itself, [node id, slot], instead of what comes through it: nodes
    inside that are given links keep their results from run to run."""
    options = {"rawLink": True} | ({"forceInput": True} if io_type == "STRING" else {})
    return io.Custom(io_type).Input(name, extra_dict=options, **fields)


def expanded(graph: Graph) -> io.NodeOutput:
    """The first output of a recipe's last node, once the host has run the graph.

    Links are names of the graph's own nodes, or the links of `raw` inputs. Widgets that the recipe
    leaves out have their nodes' defaults. ValueError where this ComfyUI lacks a node.
    """
    builder = GraphBuilder()
    placed: dict[str, Any] = {}
    for name, each in graph.items():
        inputs = {
            key: placed[value[0]].out(value[1]) if _is_inside(value, graph) else value
            for key, value in each["inputs"].items()
        }
        kind = each["class_type"]
        placed[name] = builder.node(kind, inner_id(name), **{**_defaults(kind), **inputs})
    result = placed[next(reversed(graph))]
    return io.NodeOutput(result.out(0), expand=builder.finalize())


def _is_inside(value: Any, graph: Graph) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] in graph


def _defaults(kind: str) -> dict[str, Any]:
    """What a node's required widgets hold when it is new."""
    found = host_nodes.NODE_CLASS_MAPPINGS.get(kind)  # pyright: ignore  # the host's
    if found is None:
        raise ValueError(
            f"The node {kind}, which this one is made of, is missing in this ComfyUI. Update "
            "ComfyUI; if the node is one of this pack's, the log says at start why it failed to "
            "load."
        )
    required = found.INPUT_TYPES().get("required", {})
    options = {name: spec[1] if len(spec) > 1 else {} for name, spec in required.items()}
    return {name: each["default"] for name, each in options.items() if "default" in each}
