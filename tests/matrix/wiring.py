"""Nodes wired by their schemas alone: what each input is given, and what becomes of the outputs.

Works for nodes of the host and for ours, of the older and of the newer kind, so that one that
nobody has heard of yet is wired, too.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from restoration.tests.matrix.scene import Scene, Setup

WIDGETS = ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN")
SMALL_VALUES: dict[str, Any] = {
    "context_length": 2,  # of three frames
    "context_overlap": 1,
    "reuse_threshold": 1000.0,  # a small random network changes much from step to step
    "tile_size": 64,  # HyperTile: two of the picture's width
    "max_depth": 2,
    "scale_depth": False,
    "backend": "eager",
    "block_number": 1,  # Kohya's third block is deeper than a small network is
    "steps": 1,
    "min_cfg": 3.0,  # of the first frame, which is all there is; by default it has no guidance
}
"""By name of the input: what shows a node's effect at this size, where its default would not."""


class CannotMake(Exception):
    """Why an input of a node has no value here: the cell is skipped with this."""


@dataclass(frozen=True)
class Part:
    """One input of a node."""

    name: str
    kind: str
    required: bool
    options: tuple[Any, ...] = ()
    default: Any = None
    low: float = 0.0
    high: float = 10.0

    @property
    def is_widget(self) -> bool:
        return self.kind in WIDGETS

    def moved(self) -> Any:
        """Another value than the default, for nodes that do nothing by default."""
        value = self.value("")
        if self.kind != "FLOAT" or self.name.endswith("_percent"):
            return value
        if value >= self.high:
            return (self.low + self.high) / 2
        return value + min(0.5, (self.high - value) / 2)

    def value(self, file_stem: str) -> Any:
        """The default; among files the one for this model."""
        if self.kind == "COMBO":
            files = [each for each in self.options if file_stem and file_stem in str(each)]
            if not self.options:
                raise CannotMake(f"no file for {self.name}")
            if files:
                return files[0]
            return self.options[0] if self.default is None else self.default
        if self.default is not None:
            return self.default
        return {"INT": int(self.low), "FLOAT": self.low, "BOOLEAN": False}.get(self.kind, "")


def parts_of(node: Any) -> list[Part]:
    spec, found = node.INPUT_TYPES(), []
    for section in ("required", "optional"):
        for name, entry in spec.get(section, {}).items():
            kind, *rest = entry if isinstance(entry, (tuple, list)) else (entry,)
            given = rest[0] if rest and isinstance(rest[0], dict) else {}
            options = kind if isinstance(kind, (list, tuple)) else given.get("options") or ()
            kind = "COMBO" if isinstance(kind, (list, tuple)) else str(getattr(kind, "value", kind))
            low, high = given.get("min"), given.get("max")
            found.append(
                Part(
                    name,
                    kind,
                    section == "required",
                    tuple(options),
                    given.get("default"),
                    0.0 if low is None else low,
                    10.0 if high is None else high,
                )
            )
    return found


def outputs_of(node: Any) -> list[str]:
    return [str(getattr(kind, "value", kind)) for kind in node.RETURN_TYPES]


def takes_and_gives_model(node: Any) -> bool:
    try:
        return "MODEL" in outputs_of(node) and any(p.kind == "MODEL" for p in parts_of(node))
    except (AttributeError, TypeError):  # no schema of either kind
        return False


@dataclass(frozen=True, eq=False)
class Wired:
    """A node, ready to be put before a sampler. given: inputs by name; socket: kinds by name that
    another socket of the scene serves; moved: see `Part.moved`."""

    name: str
    node: Any
    given: dict[str, Any] = field(default_factory=dict)
    sockets: dict[str, str] = field(default_factory=dict)
    moved: bool = False

    def inputs(self, setup: Setup, scene: Scene) -> dict[str, Any]:
        found: dict[str, Any] = {}
        texts: Iterator[list[Any]] = iter((setup.positive, setup.negative))
        models: Iterator[Any] = itertools.chain([setup.model], itertools.repeat(None))
        parts = parts_of(self.node)
        names = {part.name for part in parts}
        for part in parts:
            if part.name in self.given:
                found[part.name] = self.given[part.name]
            elif part.kind == "MODEL" and (model := next(models)) is not None:
                found[part.name] = model
            elif part.name in ("positive", "negative") and part.kind == "CONDITIONING":
                found[part.name] = next(texts)
            elif part.name in self.sockets:
                found[part.name] = scene.sockets[self.sockets[part.name]]()
            elif part.is_widget:
                found[part.name] = self._widget(part, names, scene.kind)
            elif part.required:
                found[part.name] = socket(part.kind, scene)
        return found

    def _widget(self, part: Part, names: set[str], file_stem: str) -> Any:
        # WAN's windows are along another axis, which these latents do not have.
        if part.name in SMALL_VALUES and ("context" not in part.name or "dim" in names):
            return SMALL_VALUES[part.name]
        return part.moved() if self.moved else part.value(file_stem)

    def apply(self, setup: Setup, scene: Scene) -> Setup:
        """The node run, as the host would; what it gives goes to the sampler."""
        results = call(self.node, self.inputs(setup, scene))
        conditionings = 0
        for kind, value in zip(outputs_of(self.node), results, strict=False):
            match kind:
                case "MODEL":
                    setup = replace(setup, model=value)
                case "CONDITIONING":
                    name = "negative" if conditionings else "positive"
                    setup, conditionings = replace(setup, **{name: value}), conditionings + 1
        return setup


def call(node: Any, inputs: dict[str, Any]) -> tuple[Any, ...]:
    """The outputs of a node of either kind."""
    with torch.inference_mode():
        target = node if hasattr(node, "GET_SCHEMA") else node()
        result = getattr(target, target.FUNCTION)(**inputs)
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
    if isinstance(result, dict):
        result = result.get("result", ())
    return tuple(getattr(result, "result", result) or ())


async def _awaited(result: Any) -> Any:
    return await result


def socket(kind: str, scene: Scene) -> Any:
    """A value for a socket: from the scene, else from a core node that needs nothing but widgets."""
    if kind in scene.sockets:
        return scene.sockets[kind]()
    import nodes

    for _, node in sorted(nodes.NODE_CLASS_MAPPINGS.items()):
        try:
            parts = parts_of(node)
            if kind not in outputs_of(node) or any(p.required and not p.is_widget for p in parts):
                continue
            given = {part.name: part.value("") for part in parts if part.is_widget}
            made = call(node, given)[outputs_of(node).index(kind)]
        except Exception:
            continue
        scene.sockets[kind] = functools.partial(lambda value: value, made)
        return made
    raise CannotMake(f"nothing here gives a {kind}")
