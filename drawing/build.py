"""Writes the shipped workflows, in the form for people and in the form for programs.

Both forms come from one description, so they cannot differ. Run after a node has changed:
python drawing workflows [COMFYUI_FOLDER]
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import notes_zh
from . import workflows as descriptions
from .blueprints import BLUEPRINTS, blueprint
from .definitions import Definitions, host_definitions
from .graph import Graph, Json
from .labels import LABELS
from .ui import ui

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "workflows"
NOTES = ROOT / "web" / "notes" / "texts.json"
"""Every note in every language, for the front-end extension."""
WORDS = NOTES.with_name("labels.json")
"""The same of the widgets that Apps show."""
SUBGRAPHS = ROOT / "subgraphs"
"""Where ComfyUI looks for a pack's blueprints."""


@dataclass(frozen=True)
class Workflow:
    """One that is shipped. Its name is that of its API form and stays; its title is what the
    template browser shows, which is the name of the file for people."""

    title: str
    describe: Callable[[Graph], None]
    all_nodes: bool = False

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.title}.json"


def workflows() -> dict[str, Workflow]:
    """What is built, by name: the `WORKFLOWS` of every module of the folder `workflows` beside this
    file. ValueError where two bring the same name."""
    found: dict[str, Workflow] = {}
    for module in pkgutil.iter_modules(descriptions.__path__, descriptions.__name__ + "."):
        described = importlib.import_module(module.name).WORKFLOWS
        if twice := found.keys() & described.keys():
            raise ValueError(f"The workflow {min(twice)} is described twice: rename one of them.")
        found |= {name: Workflow(*each) for name, each in described.items()}
    return found


def build(name: str, definitions: Definitions) -> Graph:
    """A workflow by name, drawn with the node classes of a host."""
    workflow = workflows()[name]
    graph = Graph(name, definitions, workflow.all_nodes)
    workflow.describe(graph)
    graph.notes["zh"] = notes_zh.NOTES[name]
    return graph


def files(definitions: Definitions) -> dict[Path, str]:
    """All that is written: a file's path and its text."""
    texts, notes = {}, {}
    for name, workflow in workflows().items():
        graph = build(name, definitions)
        notes[name] = graph.notes
        texts[workflow.path] = dumped(ui(graph))
        texts[FOLDER / "api" / f"{name}.json"] = dumped(graph.api())
    texts |= {NOTES: dumped(notes), WORDS: dumped(list(LABELS.values()))}
    for title, made in BLUEPRINTS.items():
        drawn = ui(build(made.workflow, definitions))
        texts[SUBGRAPHS / f"{title}.json"] = dumped(blueprint(title, drawn))
    return texts


def write_all() -> None:
    for path, text in files(host_definitions()).items():
        path.write_text(text, encoding="utf-8")


def dumped(content: Json | list[Any]) -> str:
    """As the files are written."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
