"""Where the nodes of a workflow stand, so that it can be read as opened.

The front end shows a template whole, and draws no text below a scale of 8/14: at 1440x900 that is
an area of `WIDE` x `HIGH` units. Groups follow each other from left to right, below the note; in a
group nodes fill columns from top to bottom, in the order in which they work.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .definitions import Definitions, inputs_of
from .graph import Graph, Node

WIDE, HIGH = 1850, 1150
GAP, BORDER, TITLE, HEADING = 14, 10, 30, 44
PICTURES = {
    "LoadImage": 260,
    "PreviewImage": 240,
    "SaveImage": 240,
    "RestorationCompare": 340,
    "PreviewAny": 120,
}
"""Height of what the front end shows below the widgets."""
SLOT, WIDGET, TEXT = 22, 30, 90


@dataclass(frozen=True)
class Box:
    """Left, top, width and height; of a node without its title."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Layout:
    note: Box
    nodes: dict[int, Box]
    """By id."""
    groups: list[Box]


def arrange(graph: Graph) -> Layout:
    """The least number of columns that fits. ValueError where no layout can be read as opened."""
    note = note_height(graph.note, WIDE)
    heights = {node.id: height(node, graph.definitions) for node in graph.nodes}
    room = HIGH - note - TITLE - 2 * GAP - HEADING - BORDER
    columns = [column for _, members in graph.groups for column in _columns(members, heights, room)]
    edges = (len(columns) - 1) * GAP + len(graph.groups) * (2 * BORDER)
    width = min(400, (WIDE - edges) // len(columns))
    if width < 120:
        raise ValueError(
            f"The workflow {graph.name} has {len(graph.nodes)} nodes in {len(columns)} columns, too "
            "many to be read as opened. Take nodes out, or let a Restore node stand for some."
        )
    boxes: dict[int, Box] = {}
    frames: list[Box] = []
    top = note + GAP + HEADING
    x = 0
    for _, members in graph.groups:
        left, bottom = x, top
        for column in _columns(members, heights, room):
            y = top
            for node in column:
                boxes[node.id] = Box(x + BORDER, y + TITLE, width, heights[node.id])
                y += TITLE + heights[node.id] + GAP
            bottom = max(bottom, y - GAP)
            x += width + GAP
        frames.append(
            Box(left, top - HEADING, x - GAP - left + 2 * BORDER, bottom - top + HEADING + BORDER)
        )
        x += 2 * BORDER
    return Layout(Box(0, 0, max(x - GAP, 900), note), boxes, frames)


def _columns(members: list[Node], heights: dict[int, int], room: int) -> list[list[Node]]:
    columns: list[list[Node]] = [[]]
    used = 0
    for node in members:
        needed = TITLE + heights[node.id] + GAP
        if columns[-1] and used + needed > room:
            columns.append([])
            used = 0
        columns[-1].append(node)
        used += needed
    return columns


def height(node: Node, definitions: Definitions) -> int:
    """What a node needs in either look of the front end, without its title."""
    described = inputs_of(node.kind, definitions)
    widgets = [each.options for each in described if each.is_widget]
    sockets = len(described) - len(widgets)
    outputs = len(definitions[node.kind].RETURN_TYPES)
    total = 20 + SLOT * max(sockets, outputs)
    total += sum(TEXT if options.get("multiline") else WIDGET for options in widgets)
    return total + PICTURES.get(node.kind, 0)


def note_height(text: str, width: int) -> int:
    """About what the front end needs: letters are some 7 units wide, Chinese characters 14, and
    addresses are not drawn."""
    shown = re.sub(r"\]\(.*?\)", "]", text)
    across = width / 7
    widths = [sum(2 if ord(c) > 0x2E80 else 1 for c in line) for line in shown.split("\n")]
    rows = sum(max(0.6, math.ceil(width / across)) for width in widths)
    return 40 + round(18 * rows)
