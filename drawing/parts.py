"""Parts that several workflows have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def fidelity_dial(g: Graph) -> Slot:
    """One dial for every `fidelity` of a workflow."""
    return g.add("RestorationFidelity")[0]


def restoration(
    g: Graph,
    kind: str,
    load: Callable[[Graph], dict[str, Slot]],
    prefix: str,
    dials: tuple[str, ...] = ("fidelity", "upscale_by", "prompt"),
    **settings: Any,
) -> Node:
    """A whole workflow around a Restore node, which is given back.

    load: adds the loaders, and gives what they are to the node's sockets. dials: widgets of the
    Restore node that an App shows.
    """
    photo = photo_group(g)
    with g.group("2  Models"):
        sockets = load(g)
    with g.group("3  Restore"):
        if g.all_nodes and "fidelity" not in sockets:
            sockets["fidelity"] = fidelity_dial(g)
        given = {"image": photo[0], "transparency": photo[1], **sockets}
        done = g.restore(kind, **given, **settings)
    if not g.all_nodes:
        g.shown += [(done, name) for name in dials]
        g.shown += [(n, name) for n in g.nodes for name, v in n.inputs.items() if v in n.models]
    before_and_after(g, 4, photo[0], done[0], prefix)
    return done
