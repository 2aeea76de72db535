"""Draws a workflow from one description: in the form for people and in the form for programs."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .. import registry
from .files import file_row
from .notes_zh import NOTES

Json = dict[str, Any]
Definitions = Mapping[str, Any]
"""Node classes of the host by id."""

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
PICTURES = {"LoadImage": 340, "PreviewImage": 340, "SaveImage": 400}
"""Height that the frontend needs to show a picture."""
GROUP_COLORS = ("#3f789e", "#b58b2a", "#8A8", "#88A", "#a1309b", "#3f789e")
WIDTH, GAP, TITLE, NOTE_WIDTH = 320, 60, 30, 500
VIEW = {"scale": 0.7, "offset": [130, 215]}
"""What is seen first: below a zoom of 0.6 the frontend draws no text, and newer ones lay their side
bar and tabs over the canvas."""


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
    pos: tuple[int, int]
    size: tuple[int, int]

    def __getitem__(self, index: int) -> Slot:
        return Slot(self.id, index)


def _described(kind: str, definitions: Definitions) -> list[tuple[str, str, Json, bool]]:
    """(name, type, options, optional) of every input, as the host tells it."""
    types = definitions[kind].INPUT_TYPES()
    rows = []
    for group in ("required", "optional"):
        for name, spec in types.get(group, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            type_name = "COMBO" if isinstance(spec[0], list | tuple) else spec[0]
            rows.append((name, type_name, options, group == "optional"))
    return rows


def _is_widget(type_name: str, options: Json) -> bool:
    return type_name in WIDGETS and not options.get("forceInput")


@dataclass
class Graph:
    """A workflow, written from left to right: groups of columns of nodes."""

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
        rows = _described(kind, self.definitions)
        widgets = [(name, o) for name, t, o, _ in rows if _is_widget(t, o)]
        sockets = sum(1 for _, t, o, _ in rows if not _is_widget(t, o))
        outputs = len(self.definitions[kind].RETURN_TYPES)
        height = 20 + 20 * max(sockets, outputs)
        height += sum(110 if o.get("multiline") else 28 for _, o in widgets)
        height += PICTURES.get(kind, 0)
        models = (
            tuple(value for value in inputs.values() if value in registry.files()) if inputs else ()
        )
        if kind == "RestorationFaceCrop":
            models = ("face_detection_yunet_2023mar.onnx",)
        node = Node(
            len(self.nodes) + 2, kind, title, inputs, models, (self.x, self.y), (WIDTH, height)
        )
        self.nodes.append(node)
        self.y += height + TITLE + 40
        return node

    def api(self) -> Json:
        """{id: class_type, inputs}: what the host runs."""
        return {
            str(node.id): {
                "inputs": {
                    name: [str(value.node), value.index] if isinstance(value, Slot) else value
                    for name, value in self._values(node).items()
                },
                "class_type": node.kind,
                "_meta": {"title": self._title(node)},
            }
            for node in self.nodes
        }

    def _values(self, node: Node) -> Json:
        """Every widget's value, the schema's default where none is given, and every link."""
        values, given = {}, dict(node.inputs)
        for name, type_name, options, _ in _described(node.kind, self.definitions):
            if name in given:
                values[name] = given.pop(name)
            elif _is_widget(type_name, options):
                values[name] = options["default"]
        if given:
            raise ValueError(f"{node.kind} has no input {', '.join(given)}")
        return values

    def _title(self, node: Node) -> str:
        if node.title:
            return node.title
        schema = getattr(self.definitions[node.kind], "GET_SCHEMA", None)
        found = schema().display_name if schema else None
        return found or DISPLAY_NAMES.get(node.kind, node.kind)

    def ui(self) -> Json:
        """What the frontend loads."""
        links: list[list[Any]] = []
        consumers: dict[Slot, list[int]] = {}
        drawn = []
        for order, node in enumerate(self.nodes, 1):
            values = self._values(node)
            rows = _described(node.kind, self.definitions)
            rows = sorted(rows, key=lambda row: _is_widget(row[1], row[2]))  # sockets first
            inputs, stored = [], []
            for slot, (name, type_name, options, optional) in enumerate(rows):
                entry: Json = {"name": name, "type": type_name, "link": None}
                if optional:
                    entry["shape"] = 7
                if _is_widget(type_name, options):
                    entry["widget"] = {"name": name}
                value = values.get(name)
                if isinstance(value, Slot):
                    source = self.nodes[value.node - 2]
                    kind = self.definitions[source.kind].RETURN_TYPES[value.index]
                    link = len(links) + 1
                    links.append([link, value.node, value.index, node.id, slot, kind])
                    consumers.setdefault(value, []).append(link)
                    entry["link"] = link
                    value = options.get("default", "")
                if _is_widget(type_name, options):
                    stored.append(value)
                    if options.get("control_after_generate"):
                        stored.append("fixed")
                inputs.append(entry)
            if node.kind == "LoadImage":
                inputs.append(
                    {
                        "name": "upload",
                        "type": "IMAGEUPLOAD",
                        "widget": {"name": "upload"},
                        "link": None,
                    }
                )
                stored.append("image")
            drawn.append(self._drawn(node, order, inputs, stored))
        for shown, node in zip(drawn, self.nodes, strict=True):
            for index, output in enumerate(shown["outputs"]):
                output["links"] = consumers.get(node[index])
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"diffusion-restoration/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes) + 2,
            "last_link_id": len(links),
            "nodes": [*self._notes(), *drawn],
            "links": links,
            "groups": self.groups,
            "extra": {"ds": VIEW},
            "version": 0.4,
        }

    def _drawn(self, node: Node, order: int, inputs: list[Json], stored: list[Any]) -> Json:
        definition = self.definitions[node.kind]
        names = getattr(definition, "RETURN_NAMES", None) or definition.RETURN_TYPES
        ours = definition.__module__.startswith("restoration.") or "diffusion" in str(
            getattr(definition, "RELATIVE_PYTHON_MODULE", "")
        )
        properties: Json = {
            "cnr_id": "diffusion-restoration" if ours else "comfy-core",
            "ver": "0.1.0" if ours else "0.3.64",
            "Node name for S&R": node.kind,
        }
        if node.models:
            files = registry.files()
            properties["models"] = [
                {"name": name, "url": files[name].url, "directory": files[name].folder}
                for name in node.models
            ]
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
            "properties": properties,
            "widgets_values": stored,
        }

    def _notes(self) -> list[Json]:
        """What it does, in English and below that in Chinese."""
        drawn, top = [], 0
        for identity, title, text in (
            (1, "Read me", self.note),
            (len(self.nodes) + 2, "说明", NOTES[self.name]),
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


def before_and_after(g: Graph, number: int, before: Slot, after: Slot, prefix: str) -> None:
    with g.group(f"{number}  Before and after"):
        g.add("PreviewImage", "Before", images=before)
        g.column()
        g.add("SaveImage", "After (saved)", images=after, filename_prefix=f"restored/{prefix}")


def fidelity_dial(g: Graph) -> Slot:
    """One dial for every `fidelity` of a workflow."""
    return g.add("RestorationFidelity")[0]


NEEDS = "### Files\n\n"
CARDS = (
    "**Your card** (from ComfyUI's own memory formula, not measured; too much is noticed and halved)"
    "\n\n| memory | `tile_size` | `tile_batch_size` | `tile_size` of the VAE |\n| --- | --- | --- | --- |"
    "\n| 6 GB | 512 | 1 | 256 |\n| 8 GB | 512 | 2 | 512 |\n| 12 GB | 512 to 768 | 4 | 512 |"
    "\n| 24 GB | 768 to 1024 | 8 | 1024 |\n\n"
)
"""For the notes of tiled workflows."""

VAE_NODES = {
    False: ("VAEEncode", "VAEDecode"),
    True: ("TiledVAEEncodeExact", "TiledVAEDecodeExact"),
}
"""The VAE nodes of a workflow that works in tiles, or not."""

DIALS = "### The three dials that matter\n\n"
DIAL = (
    "- `fidelity` in *Fidelity Dial*: 0.5, the authors' setting. Higher keeps closer to the photo, "
    "lower draws more freely."
)
"""One of the notes' three dials; what it turns is said behind it."""


def files_note(*names: str) -> str:
    return NEEDS + "\n".join(map(file_row, names)) + "\n\n"


def dumped(content: Json) -> str:
    """As the files are written."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
