"""A workflow in the form that the front end loads."""

from __future__ import annotations

from typing import Any

from .. import registry
from ..tools.shipped import graph_id
from .definitions import inputs_of, is_ours
from .graph import Graph, Json, Node, Slot
from .labels import label
from .layout import HIGH, Box, arrange, height

GROUP_COLORS = ("#3f789e", "#b58b2a", "#8A8", "#88A", "#a1309b", "#3f789e")
NOTE_PROPERTY = "diffusion_restoration_note"
"""By it web/notes.js knows a note of ours, and its text in another language."""
SAVES = ("SaveImage", "RestorationCompare")
"""What an App shows of its results, the first of them large."""


def ui(graph: Graph) -> Json:
    """Nodes with their places, links, groups and the note."""
    layout = arrange(graph)
    links: list[list[Any]] = []
    drawn: list[Json] = [
        _drawn(graph, node, layout.nodes[node.id], order, links)
        | {"flags": {"collapsed": True} if node.id in layout.folded else {}}
        for order, node in enumerate(graph.nodes, 1)
    ]
    consumers: dict[tuple[int, int], list[int]] = {}
    for number, source, index, *_ in links:
        consumers.setdefault((source, index), []).append(number)
    for shown in drawn:
        for index, output in enumerate(shown["outputs"]):
            output["links"] = consumers.get((shown["id"], index))
    return {
        "id": graph_id(graph.name),
        "revision": 0,
        "last_node_id": len(graph.nodes) + 1,
        "last_link_id": len(links),
        "nodes": [_note(graph, layout.note), *drawn],
        "links": links,
        "groups": [
            _frame(number, title, box)
            for number, ((title, _), box) in enumerate(
                zip(graph.groups, layout.groups, strict=True), 1
            )
        ],
        "extra": _app(graph),
        "version": 0.4,
    }


def _app(graph: Graph) -> Json:
    """What makes newer front ends open the workflow as a form (App Mode)."""
    if not graph.shown or graph.all_nodes:
        return {}
    results = [node.id for kind in SAVES for node in graph.nodes if node.kind == kind]
    inputs = [[node.id, name] for node, name in graph.shown]
    return {"linearMode": True, "linearData": {"inputs": inputs, "outputs": results}}


def _frame(number: int, title: str, box: Box) -> Json:
    return {
        "id": number,
        "title": title,
        "bounding": [box.x, box.y, box.width, box.height],
        "color": GROUP_COLORS[(number - 1) % len(GROUP_COLORS)],
        "font_size": 24,
        "flags": {},
    }


def _drawn(graph: Graph, node: Node, box: Box, order: int, links: list[list[Any]]) -> Json:
    """A node; the links that go in are added to those of the workflow."""
    definition = graph.definitions[node.kind]
    inputs, stored = _inputs(graph, node, links)
    names = getattr(definition, "RETURN_NAMES", None) or definition.RETURN_TYPES
    return {
        "id": node.id,
        "type": node.kind,
        "pos": [box.x, box.y],
        "size": [box.width, box.height or _unfolded(node, box, graph)],
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


def _unfolded(node: Node, box: Box, graph: Graph) -> int:
    """Of a folded node: no further down than the graph is drawn. The front end makes it as high as its
    widgets need when somebody opens it."""
    return min(height(node, graph.definitions), HIGH - box.y)


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
            if said := label(graph, node, each.name):
                entry["label"] = said
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
    if any(each.options.get("image_upload") for each in described):
        widget = {"name": "upload"}
        inputs.append({"name": "upload", "type": "IMAGEUPLOAD", "widget": widget, "link": None})
        stored.append("image")
    return inputs, stored


def _properties(node: Node, definition: Any) -> Json:
    """Whose the node is, and which files it needs."""
    ours = is_ours(definition)
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


def _note(graph: Graph, box: Box) -> Json:
    """What it does, in English. The front-end extension puts the Chinese text in its place where
    ComfyUI speaks Chinese."""
    return {
        "id": 1,
        "type": "MarkdownNote",
        "pos": [box.x, box.y],
        "size": [box.width, box.height],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "Read me",
        "properties": {NOTE_PROPERTY: graph.name},
        "widgets_values": [graph.note],
    }
