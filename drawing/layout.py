"""Where the nodes of a workflow stand, so that it can be read as opened.

The front end fits a template into three quarters of its window and draws no text below a scale of
8/14: at 1440x900 that leaves an area of `WIDE` x `HIGH` units. The note lies above, groups follow
each other from left to right, small ones below each other; in a group nodes fill columns from top to
bottom, in the order in which they work, so no link runs to the left. The result, the last group, gets
the width that is left, and pictures the height.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .definitions import Definitions, Input, inputs_of, is_ours
from .graph import Graph, Node, Slot

WIDE, HIGH = 1815, 1112
GAP, BETWEEN, BORDER, TITLE, HEADING = 8, 14, 8, 30, 36
"""Between nodes and groups, between columns, around the nodes of a group; of a node, of a group."""
NARROWEST, WIDEST = 226, 350
"""Columns. Nodes 2.0 draws no node narrower than the first."""
LONG = {"color_correction_method": 253, "resize_source": 243}
"""Widgets whose names make a column wider."""
RESULT = 400
"""Least width of the last group's column, which has the picture."""


@dataclass(frozen=True)
class Look:
    """What a look of the front end draws, in units of height."""

    edges: int
    socket: int
    number: int
    """Of a widget, but for those of `rows`."""
    rows: Mapping[str, int]
    badge: int = 0
    """Of a pack, inside the node."""


CANVAS = Look(14, 20, 24, {})
NODES2 = Look(26, 24, 32, {"COMBO": 35, "STRING": 37}, badge=24)
"""It folds advanced widgets away."""
TEXT, BAR = 70, 32
"""Of a text of several lines; "Show advanced inputs", which Nodes 2.0 draws below the node."""
BARRED = {"GrowMask": {"tapered_corners"}, "SamplerEulerAncestral": {"eta", "s_noise"}}
"""Core's nodes that have the bar on newer hosts than the one that is drawn with, and their widgets that
fold away there."""
FEW = 12
"""Nodes of a workflow that shows all of them whole; in larger ones those without widgets are folded."""
FIXED = {"KSamplerSelect", "RestorationSampler", "TiledVAEEncodeExact", "TiledVAEDecodeExact"}
"""Folded like those: a recipe has set what nobody turns."""
PICTURES = {
    "LoadImage": 231,
    "RestorationSamplePhoto": 231,
    "RestorationCompare": 280,
    "PreviewAny": 120,
    "LossGraphNode": 280,
}
"""Least height of what the front end shows below the widgets."""

Heights = dict[int, int]
"""What nodes take up by id, without the title, with the bar."""


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
    folded: frozenset[int]
    """Ids of the nodes that show their title alone."""


@dataclass(frozen=True)
class Group:
    """The columns of one frame."""

    columns: list[list[Node]]

    def height(self, heights: Heights) -> int:
        return HEADING + BORDER + max(_stacked(column, heights) for column in self.columns)


Block = list[Group]
"""Groups below each other: one, or several of one column."""


def arrange(graph: Graph) -> Layout:
    """ValueError where no layout can be read as opened."""
    folded = _folded(graph)
    heights = {node.id: height(node, graph.definitions) for node in graph.nodes}
    heights |= dict.fromkeys(folded, 0)
    bars = {node.id: BAR * _has_bar(node, graph.definitions) for node in graph.nodes}
    heights = {number: tall + bars[number] for number, tall in heights.items()}
    note = max(note_height(text, WIDE) for text in graph.notes.values())
    top = note + GAP
    blocks = _blocks([members for _, members in graph.groups], heights, HIGH - top)
    widths = _widths(graph, blocks)
    low = max(_piled(block, heights) for block in blocks)
    if top + low > HIGH:
        raise ValueError(
            f"The workflow {graph.name} is {top + low} units high, of which {HIGH} can be read as "
            "opened. Shorten its note in every language, or take inputs out."
        )
    boxes: dict[int, Box] = {}
    frames: list[Box] = []
    x = 0
    for block in blocks:
        across = [widths.pop(0) for _ in block[0].columns]
        whole = sum(across) + (len(across) - 1) * BETWEEN + 2 * BORDER
        _grow(block, heights, low - _piled(block, heights))
        y = top
        for group in block:
            frames.append(Box(x, y, whole, group.height(heights)))
            left = x + BORDER
            for width, members in zip(across, group.columns, strict=True):
                under = y + HEADING
                for node in members:
                    tall = heights[node.id] - bars[node.id]
                    boxes[node.id] = Box(left, under + TITLE, width, tall)
                    under += TITLE + heights[node.id] + GAP
                left += width + BETWEEN
            y += group.height(heights) + GAP
        x += whole + GAP
    return Layout(Box(0, TITLE, x - GAP, note - TITLE), boxes, frames, folded)


def _folded(graph: Graph) -> frozenset[int]:
    def bare(node: Node) -> bool:
        described = inputs_of(node.kind, graph.definitions)
        turned = [each.name for each in described if each.is_widget]
        linked = [name for name in turned if isinstance(node.inputs.get(name), Slot)]
        return node.kind in FIXED or (node.kind not in PICTURES and turned == linked)

    large = len(graph.nodes) > FEW
    return frozenset(each.id for each in graph.nodes if each.folded or (large and bare(each)))


def _blocks(groups: Sequence[list[Node]], heights: Heights, room: int) -> list[Block]:
    blocks: list[Block] = []
    for number, members in enumerate(groups):
        group = Group(_columns(members, heights, room - HEADING - BORDER))
        last = number == len(groups) - 1
        beside = [*blocks[-1], group] if blocks and not last else []
        if beside and _piled(beside, heights) <= room and {len(g.columns) for g in beside} == {1}:
            blocks[-1].append(group)
        else:
            blocks.append([group])
    return blocks


def _columns(members: list[Node], heights: Heights, room: int) -> list[list[Node]]:
    """As few as fit, and then about equally high."""
    fewest = len(_filled(members, heights, room))
    least = max(TITLE + heights[node.id] for node in members)
    tops = range(min(least, room), room + 1, 10)
    equal = next((top for top in tops if len(_filled(members, heights, top)) == fewest), room)
    return _filled(members, heights, equal)


def _filled(members: list[Node], heights: Heights, room: int) -> list[list[Node]]:
    """In each column the first ones that fit, of those whose sources stand there or left of it."""
    columns: list[list[Node]] = [[]]
    left = list(members)
    while left:
        waiting = {node.id for node in left}
        ready = (node for node in left if not waiting & _sources(node))
        fits = (
            node
            for node in ready
            if not columns[-1] or _stacked([*columns[-1], node], heights) <= room
        )
        node = next(fits, None)
        if node is None:
            columns.append([])
        else:
            columns[-1].append(node)
            left.remove(node)
    return columns


def _sources(node: Node) -> set[int]:
    return {value.node for value in node.inputs.values() if isinstance(value, Slot)}


def _widths(graph: Graph, blocks: list[Block]) -> list[int]:
    """Of every column, the result's last."""
    least = [
        max(_narrowest(graph, node) for group in block for node in group.columns[number])
        for block in blocks[:-1]
        for number in range(len(block[0].columns))
    ]
    inner = sum(len(block[0].columns) - 1 for block in blocks)
    edges = len(blocks) * (2 * BORDER + GAP) - GAP + inner * BETWEEN
    spare = WIDE - edges - sum(least) - RESULT
    if spare < 0:
        raise ValueError(
            f"The workflow {graph.name} has {len(least) + 1} columns, too many to be read as opened. "
            "Take nodes out, or let a Restore node stand for some."
        )
    across = [min(WIDEST, each + spare // (len(least) + 1)) for each in least]
    return [*across, WIDE - edges - sum(across)]


def _narrowest(graph: Graph, node: Node) -> int:
    """The front end makes a node wide enough for its title and the names of its widgets."""
    named = [LONG.get(name, 0) for name in graph.values(node)]
    return max(NARROWEST, round(8.2 * len(graph.title(node))) + 10, *named)


def _stacked(column: list[Node], heights: Heights) -> int:
    return sum(TITLE + heights[node.id] + GAP for node in column) - GAP


def _piled(block: Block, heights: Heights) -> int:
    return sum(group.height(heights) + GAP for group in block) - GAP


def _grow(block: Block, heights: Heights, spare: int) -> None:
    """Gives what is left below a block to its first picture."""
    for group in block:
        for column in group.columns:
            for node in column:
                if node.kind in PICTURES and len(group.columns) == 1:
                    heights[node.id] += spare
                    return


def height(node: Node, definitions: Definitions) -> int:
    """What a node needs in either look of the front end, without its title."""
    described = inputs_of(node.kind, definitions)
    widgets = [each for each in described if each.is_widget]
    sockets = max(len(described) - len(widgets), len(definitions[node.kind].RETURN_TYPES))
    extras = sum(_extras(each) for each in widgets)
    later = BARRED.get(node.kind, ())
    plain = [w for w in widgets if not w.options.get("advanced") and w.name not in later]
    canvas = _tall(CANVAS, sockets, widgets) + CANVAS.number * extras
    nodes2 = _tall(NODES2, sockets, plain) + NODES2.badge * is_ours(definitions[node.kind])
    return max(canvas, nodes2) + PICTURES.get(node.kind, 0)


def _tall(look: Look, sockets: int, widgets: Sequence[Input]) -> int:
    rows = (
        TEXT if each.options.get("multiline") else look.rows.get(each.type, look.number)
        for each in widgets
    )
    return look.edges + look.socket * sockets + sum(rows)


def _extras(widget: Input) -> int:
    """Widgets that the front end puts below one, in the canvas."""
    return sum(bool(widget.options.get(key)) for key in ("control_after_generate", "image_upload"))


def _has_bar(node: Node, definitions: Definitions) -> bool:
    described = inputs_of(node.kind, definitions)
    return node.kind in BARRED or any(each.options.get("advanced") for each in described)


def note_height(text: str, width: int) -> int:
    """What Nodes 2.0 needs, which writes larger, with the title. Addresses are not drawn."""
    shown = re.sub(r"\]\(.*?\)", "]", text)
    total = 60.0
    for block in shown.strip().split("\n\n"):
        lines = block.split("\n") if block.startswith("- ") else [block]
        rows = sum(7 + 22.5 * math.ceil(_across(line) / (width - 50)) for line in lines)
        total += 45 if block.startswith("# ") else rows + 8 * block.startswith("- ")
    return round(total)


def _across(line: str) -> float:
    """Units: 9 for a letter of code, 14 for a Chinese character, 6.5 for others."""
    code = sum(map(len, re.findall(r"`.*?`", line)))
    wide = sum(ord(letter) > 0x2E80 for letter in line)
    return 6.5 * len(re.sub(r"[*\[\]]", "", line)) + 2.5 * code + 7.5 * wide
