"""A workflow in the form that the front end loads."""

from __future__ import annotations

import re
import uuid
from typing import Any

from .. import registry
from .definitions import inputs_of
from .graph import TITLE, Graph, Json, Node, Slot
from .notes_zh import NOTES

NOTE_WIDTH = 500
VIEW = {"scale": 0.7, "offset": [130, 215]}
"""What is seen first: below a zoom of 0.6 the frontend draws no text, and newer ones lay their side
bar and tabs over the canvas."""


def ui(graph: Graph) -> Json:
    """Nodes with their places, links, groups and notes."""
    links: list[list[Any]] = []
    drawn = [_drawn(graph, node, order, links) for order, node in enumerate(graph.nodes, 1)]
    consumers: dict[tuple[int, int], list[int]] = {}
    for number, source, index, *_ in links:
        consumers.setdefault((source, index), []).append(number)
    for shown in drawn:
        for index, output in enumerate(shown["outputs"]):
            output["links"] = consumers.get((shown["id"], index))
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"diffusion-restoration/{graph.name}")),
        "revision": 0,
        "last_node_id": len(graph.nodes) + 2,
        "last_link_id": len(links),
        "nodes": [*_notes(graph), *drawn],
        "links": links,
        "groups": graph.groups,
        "extra": {"ds": VIEW},
        "version": 0.4,
    }


def _drawn(graph: Graph, node: Node, order: int, links: list[list[Any]]) -> Json:
    """A node; the links that go in are added to those of the workflow."""
    definition = graph.definitions[node.kind]
    inputs, stored = _inputs(graph, node, links)
    names = getattr(definition, "RETURN_NAMES", None) or definition.RETURN_TYPES
    return {
        "id": node.id,
        "type": node.kind,
        "pos": list(node.pos),
        "size": list(node.size),
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": inputs,
        "outputs": [
            {"name": name, "type": kind}
            for name, kind in zip(names, definition.RETURN_TYPES, strict=True)
        ],
        **({"title": node.title} if node.title else {}),
        "properties": _properties(node, definition),
        "widgets_values": stored,
    }


def _inputs(graph: Graph, node: Node, links: list[list[Any]]) -> tuple[list[Json], list[Any]]:
    """(inputs, values of the widgets), sockets first."""
    values = graph.values(node)
    inputs, stored = [], []
    described = inputs_of(node.kind, graph.definitions)
    for slot, each in enumerate(sorted(described, key=lambda each: each.is_widget)):
        entry: Json = {"name": each.name, "type": each.type, "link": None}
        if each.optional:
            entry["shape"] = 7
        if each.is_widget:
            entry["widget"] = {"name": each.name}
        value = values.get(each.name)
        if isinstance(value, Slot):
            kind = graph.definitions[graph.node(value.node).kind].RETURN_TYPES[value.index]
            entry["link"] = len(links) + 1
            links.append([entry["link"], value.node, value.index, node.id, slot, kind])
            value = each.options.get("default", "")
        if each.is_widget:
            stored.append(value)
            if each.options.get("control_after_generate"):
                stored.append("fixed")
        inputs.append(entry)
    if node.kind == "LoadImage":
        widget = {"name": "upload"}
        inputs.append({"name": "upload", "type": "IMAGEUPLOAD", "widget": widget, "link": None})
        stored.append("image")
    return inputs, stored


def _properties(node: Node, definition: Any) -> Json:
    """Whose the node is, and which files it needs."""
    ours = definition.__module__.startswith("restoration.") or "diffusion" in str(
        getattr(definition, "RELATIVE_PYTHON_MODULE", "")
    )
    properties: Json = {
        "cnr_id": "diffusion-restoration" if ours else "comfy-core",
        "ver": "0.1.0" if ours else "0.3.64",
        "Node name for S&R": node.kind,
    }
    if node.models:
        files = (registry.files()[name] for name in node.models)
        properties["models"] = [
            {"name": file.name, "url": file.url, "directory": file.folder} for file in files
        ]
    return properties


def _notes(graph: Graph) -> list[Json]:
    """What it does, in English and below that in Chinese."""
    drawn, top = [], 0
    for identity, title, text in (
        (1, "Read me", graph.note),
        (len(graph.nodes) + 2, "说明", NOTES[graph.name]),
    ):
        size = [NOTE_WIDTH, _note_height(text)]
        drawn.append(
            {
                "id": identity,
                "type": "MarkdownNote",
                "pos": [0, top],
                "size": size,
                "flags": {},
                "order": 0,
                "mode": 0,
                "inputs": [],
                "outputs": [],
                "title": title,
                "properties": {},
                "widgets_values": [text],
                "color": "#432",
                "bgcolor": "#653",
            }
        )
        top += size[1] + TITLE + 40
    return drawn


def _note_height(text: str) -> int:
    """About what the front end needs: it breaks lines at some 80 letters, or 40 characters that are
    as wide as high, and draws no addresses."""
    shown = re.sub(r"\]\(.*?\)", "]", text)
    widths = [sum(2 if ord(c) > 0x2E80 else 1 for c in line) for line in shown.split("\n")]
    rows = sum(max(0.6, -(-width // 80)) for width in widths)
    return 60 + round(17 * rows)
