"""Parts that several workflows have."""

from __future__ import annotations

from .graph import Graph, Node, Slot


def photo_group(g: Graph) -> Node:
    """The photo of a workflow for one."""
    with g.group("1  Your photo"):
        photo = g.add("LoadImage", image="example.png")
    g.shown.append((photo, "image"))
    return photo


def before_and_after(g: Graph, number: int, before: Slot, after: Slot, prefix: str) -> None:
    """Compared and saved: the end of every workflow that makes a picture."""
    with g.group(f"{number}  Before and after"):
        g.add("RestorationCompare", before=before, after=after)
        g.add("SaveImage", images=after, filename_prefix=f"restored/{prefix}")


def dials(g: Graph, restored: Node, *names: str) -> None:
    """Widgets of a Restore node that its App shows."""
    if not g.all_nodes:
        g.shown += [(restored, name) for name in names]


def fidelity_dial(g: Graph) -> Slot:
    """One dial for every `fidelity` of a workflow."""
    return g.add("RestorationFidelity")[0]
