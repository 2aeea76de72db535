"""Parts that several workflows have."""

from __future__ import annotations

from .graph import Graph, Node, Slot


def photo_group(g: Graph, sample: bool = False) -> Node:
    """The photo of a workflow for one. sample: it opens with the one that comes with the pack."""
    with g.group("1  Your photo"):
        if sample:
            photo = g.add("RestorationSamplePhoto")
        else:
            photo = g.add("LoadImage", image="example.png")
    g.shown.append((photo, "image"))
    return photo


def before_and_after(g: Graph, number: int, before: Slot, after: Slot, prefix: str) -> None:
    """Compared and saved: the end of every workflow that makes a picture."""
    with g.group(f"{number}  Before and after"):
        compared = g.add("RestorationCompare", before=before, after=after)
        # An App shows the result that came last.
        g.add("SaveImage", images=compared[0], filename_prefix=f"restored/{prefix}")


def dials(g: Graph, restored: Node, *names: str) -> None:
    """Widgets of a Restore node that its App shows."""
    g.shown += [(restored, name) for name in names]


def fidelity_dial(g: Graph) -> Slot:
    """One dial for every `fidelity` of a workflow."""
    return g.add("RestorationFidelity")[0]
