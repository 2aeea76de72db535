"""Node ids that another pack has as well: ComfyUI keeps the node that is registered last and says
nothing, and a workflow of the other pack then gets the wrong one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

import nodes as host_nodes

log = logging.getLogger(__name__)

PACK = "Diffusion Restoration"


def watch_ids(ours: Mapping[str, type]) -> None:
    """Names in the log, with both packs, every id of ours that is taken when the host is about to
    register them, and every one that is taken over until it starts. ours: node classes by id."""
    _tell(ours, "this pack's")

    async def started(_app: Any) -> None:
        _tell(ours, "the other one")

    module = sys.modules.get("server")  # importing it would start half of the host
    server = getattr(getattr(module, "PromptServer", None), "instance", None)
    if server is not None and not server.app.on_startup.frozen:
        server.app.on_startup.append(started)


def _tell(ours: Mapping[str, type], kept: str) -> None:
    for name, own in ours.items():
        other = host_nodes.NODE_CLASS_MAPPINGS.get(name)  # pyright: ignore  # the host's
        # The same module again: the pack was loaded anew.
        if other is None or other is own or other.__module__ == own.__module__:
            continue
        log.warning(
            "%s: another pack, %s, has a node with the id %s, too. ComfyUI keeps the one that is "
            "loaded last, now %s. In workflows made with the one that is gone, use another node, "
            "or disable one of the two packs.",
            PACK,
            _pack_of(other),
            name,
            kept,
        )


def _pack_of(node: type) -> str:
    """Its folder in custom_nodes, as the host remembers it."""
    where: str = getattr(node, "RELATIVE_PYTHON_MODULE", node.__module__)
    return where.removeprefix("custom_nodes.")
