"""A workflow as it is described: nodes in groups, in the order in which they work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .. import registry
from ..common.recipe import Graph as Recipe
from .definitions import Definitions, defaults_of, inputs_of

Json = dict[str, Any]


@dataclass(frozen=True)
class Slot:
    """An output of a node."""

    node: int
    index: int


@dataclass
class Node:
    """One node, and what it is given."""

    id: int
    kind: str
    title: str | None
    inputs: dict[str, Any]
    models: tuple[str, ...]
    """Weight files that it needs."""
    folded: bool = False
    """Its title alone is shown, for nobody turns it."""

    def __getitem__(self, index: int) -> Slot:
        return Slot(self.id, index)


@dataclass
class Graph:
    """Groups of nodes, a note above them, and what an App shows of them."""

    name: str
    definitions: Definitions
    all_nodes: bool = False
    """Restore nodes stand open: the nodes of their recipe in their place."""
    nodes: list[Node] = field(default_factory=list)
    groups: list[tuple[str, list[Node]]] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    """By language."""
    shown: list[tuple[Node, str]] = field(default_factory=list)
    """Widgets that an App shows; with none, the workflow opens as a graph."""

    @property
    def note(self) -> str:
        """In English, as the file has it."""
        return self.notes["en"]

    @note.setter
    def note(self, text: str) -> None:
        self.notes["en"] = text

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Nodes added inside stand in one frame."""
        first = len(self.nodes)
        yield
        self.groups.append((title, self.nodes[first:]))

    def add(self, kind: str, title: str | None = None, /, **inputs: Any) -> Node:
        files = registry.files()
        models = tuple(value for value in inputs.values() if value in files)
        node = Node(len(self.nodes) + 2, kind, title, inputs, models)
        self.nodes.append(node)
        return node

    def restore(self, kind: str, **inputs: Any) -> Node:
        """A Restore node, or its recipe with the same settings; the node that gives the result."""
        if not self.all_nodes:
            return self.add(kind, **inputs)
        defaults = defaults_of(kind, self.definitions)
        return self.take(self.definitions[kind].graph(**defaults | inputs))

    def take(self, recipe: Recipe) -> Node:
        """The nodes of a recipe whose links from outside are `Slot`s; the last of them."""
        taken: dict[str, Node] = {}
        for name, each in recipe.items():
            inputs = {
                key: taken[value[0]][value[1]] if isinstance(value, list) else value
                for key, value in each["inputs"].items()
            }
            title = each.get("_meta", {}).get("title")
            taken[name] = self.add(each["class_type"], title, **inputs)
        return next(reversed(taken.values()))

    def folded(self, kind: str, title: str | None = None, /, **inputs: Any) -> Node:
        """`add`, of a node that nobody turns: its title alone is shown."""
        node = self.add(kind, title, **inputs)
        node.folded = True
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
                "_meta": {"title": self.title(node)},
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

    def title(self, node: Node) -> str:
        """What stands over it, in English."""
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
