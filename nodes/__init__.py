"""The nodes: a schema and one call each. Every theme file ends in `NODES = [...]`."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension, io

log = logging.getLogger(__name__)


def themes() -> list[str]:
    """The files beside this one."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    return [name for name in names if name != "__init__"]


def load_nodes(names: Sequence[str] | None = None) -> list[type[io.ComfyNode]]:
    """Node classes of all theme files. A file that fails to import costs only its own nodes:
    its traceback is logged and the others still load."""
    nodes: list[type[io.ComfyNode]] = []
    for theme in themes() if names is None else names:
        try:
            nodes += importlib.import_module(f".{theme}", __name__).NODES
        except Exception:
            log.exception(
                "Diffusion Restoration: the nodes of nodes/%s.py are missing because the file "
                "failed to import. The other nodes work. Please report this traceback.",
                theme,
            )
    return nodes


def extension() -> ComfyExtension:
    """The pack as ComfyUI's V3 API takes it."""
    from comfy_api.latest import ComfyExtension

    from ..host.collisions import watch_ids
    from ..host.folders import register_folders
    from ..host.sample_photo import offer_sample

    register_folders()
    offer_sample()

    class DiffusionRestoration(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            loaded = load_nodes()
            watch_ids({node.define_schema().node_id: node for node in loaded})
            return loaded

    return DiffusionRestoration()
