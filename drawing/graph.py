"""A workflow as it is described: nodes in groups, written from left to right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .. import registry
from .definitions import Definitions, inputs_of

Json = dict[str, Any]

PICTURES = {"LoadImage": 340, "PreviewImage": 340, "SaveImage": 400}
"""Height that the frontend needs to show a picture."""
GROUP_COLORS = ("#3f789e", "#b58b2a", "#8A8", "#88A", "#a1309b", "#3f789e")
WIDTH, GAP, TITLE = 320, 60, 30


@dataclass(frozen=True)
class Slot:
    """An output of a node."""

    node: int
    index: int


@dataclass
class Node:
    """One node: its place, and what it is given."""

    id: int
    kind: str
    title: str | None
    inputs: dict[str, Any]
    models: tuple[str, ...]
    """Weight files that it needs."""
    pos: tuple[int, int]
    size: tuple[int, int]

    def __getitem__(self, index: int) -> Slot:
        return Slot(self.id, index)


@dataclass
class Graph:
    """Groups of columns of nodes."""

    name: str
    definitions: Definitions
    nodes: list[Node] = field(default_factory=list)
    groups: list[Json] = field(default_factory=list)
    note: str = ""
    x: int = 560
    y: int = 0

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Nodes added inside stand in one frame."""
        first, left = len(self.nodes), self.x
        self.y = 0
        yield
        members = self.nodes[first:]
        bottom = max(node.pos[1] + node.size[1] for node in members)
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [left - 20, -80, self.x + WIDTH - left + 40, bottom + 100],
                "color": GROUP_COLORS[len(self.groups) % len(GROUP_COLORS)],
                "font_size": 24,
                "flags": {},
            }
        )
        self.x += WIDTH + GAP + 20

    def column(self) -> None:
        """The next nodes stand to the right."""
        self.x, self.y = self.x + WIDTH + 40, 0

    def add(self, kind: str, title: str | None = None, **inputs: Any) -> Node:
        described = inputs_of(kind, self.definitions)
        widgets = [each.options for each in described if each.is_widget]
        sockets = len(described) - len(widgets)
        outputs = len(self.definitions[kind].RETURN_TYPES)
        height = 20 + 20 * max(sockets, outputs)
        height += sum(110 if options.get("multiline") else 28 for options in widgets)
        height += PICTURES.get(kind, 0)
        files = registry.files()
        models = tuple(value for value in inputs.values() if value in files)
        node = Node(
            len(self.nodes) + 2, kind, title, inputs, models, (self.x, self.y), (WIDTH, height)
        )
        self.nodes.append(node)
        self.y += height + TITLE + 40
        return node

    def node(self, number: int) -> Node:
        """By its id."""
        return self.nodes[number - self.nodes[0].id]

    def api(self) -> Json:
        """{id: class_type, inputs}: what the host runs."""
        return {
            str(node.id): {
                "inputs": {
                    name: [str(value.node), value.index] if isinstance(value, Slot) else value
                    for name, value in self.values(node).items()
                },
                "class_type": node.kind,
                "_meta": {"title": self._title(node)},
            }
            for node in self.nodes
        }

    def values(self, node: Node) -> Json:
        """Every widget's value, the schema's default where none is given, and every link."""
        values, given = {}, dict(node.inputs)
        for each in inputs_of(node.kind, self.definitions):
            if each.name in given:
                values[each.name] = given.pop(each.name)
            elif each.is_widget:
                values[each.name] = each.options["default"]
        if given:
            raise ValueError(f"{node.kind} has no input {', '.join(given)}")
        return values

    def _title(self, node: Node) -> str:
        if node.title:
            return node.title
        schema = getattr(self.definitions[node.kind], "GET_SCHEMA", None)
        found = schema().display_name if schema else None
        return found or DISPLAY_NAMES.get(node.kind, node.kind)


DISPLAY_NAMES = {
    "LoadImage": "Load Image",
    "CheckpointLoaderSimple": "Load Checkpoint",
    "UpscaleModelLoader": "Load Upscale Model",
    "CLIPTextEncode": "CLIP Text Encode (Prompt)",
    "VAEEncode": "VAE Encode",
    "VAEDecode": "VAE Decode",
    "SaveImage": "Save Image",
    "PreviewImage": "Preview Image",
}
