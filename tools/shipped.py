"""The shipped workflows: their names, and the files in which they are."""

from __future__ import annotations

import difflib
import functools
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .comfyui.find import PACK_ROOT

WORKFLOWS = PACK_ROOT / "workflows"


@dataclass(frozen=True)
class Shipped:
    """One workflow in its two forms."""

    name: str
    """That of the form for programs; it stays."""
    title: str
    """As the template browser shows it."""
    api: Path
    """The form for programs."""
    models: frozenset[str]
    """The published files that it names."""

    def goes_by(self, name: str) -> bool:
        """Whether it is meant: by its name, or by its title with or without the number."""
        bare = re.sub(r"^\d+ ", "", self.title)
        return plain(name) in map(plain, (self.name, self.title, bare))


def plain(name: str) -> str:
    """A name as it is compared: without ending, capitals and what stands between words."""
    return re.sub(r"[\s_-]+", "", name.removesuffix(".json")).casefold()


@functools.cache
def shipped() -> tuple[Shipped, ...]:
    """All of them, in the order of the template browser."""
    # The form for people has a title for a name.
    api = {graph_id(path.stem): path for path in (WORKFLOWS / "api").glob("*.json")}
    found = []
    for path in sorted(WORKFLOWS.glob("*.json")):
        graph = json.loads(path.read_text("utf-8"))
        if program := api.get(graph.get("id")):
            found.append(Shipped(program.stem, path.stem, program, frozenset(_models(graph))))
    return tuple(found)


def find_shipped(name: str) -> Shipped | None:
    """The workflow of a name; None: there is none."""
    return next((each for each in shipped() if each.goes_by(name)), None)


def like(name: str, *more: str) -> str:
    """A sentence with the names that are like one that is none. more: further names."""
    known = [*(each.name for each in shipped()), *more]
    close = difflib.get_close_matches(name, known, 3, 0.5)
    return f"Did you mean {' or '.join(close)}?" if close else "The command list names all."


def graph_id(name: str) -> str:
    """The id of a workflow's form for people: the two forms know each other by it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"diffusion-restoration/{name}"))


def _models(part: Any) -> Iterator[str]:
    """The names in `models` lists, as the frontend reads them, at any depth of a workflow."""
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _models(each)
    if isinstance(part, dict) and isinstance(part.get("models"), list):
        yield from (model["name"] for model in part["models"])
