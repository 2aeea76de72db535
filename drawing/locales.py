"""Writes locales/en/nodeDefs.json from the schemas, so that English is said once.

Run by the tests' environment: python drawing locales [COMFYUI_FOLDER]
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def english(nodes: list[Any]) -> dict[str, Any]:
    """{node id: names, descriptions and tooltips} in the form of ComfyUI's locale files."""
    return {
        schema.node_id: {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {
                part.id: {"name": part.display_name or part.id, "tooltip": part.tooltip}
                for part in schema.inputs
            },
            "outputs": {
                str(index): {
                    "name": part.display_name or part.get_io_type(),
                    "tooltip": part.tooltip,
                }
                for index, part in enumerate(schema.outputs)
            },
        }
        for schema in (node.define_schema() for node in nodes)
    }


def write_english() -> None:
    """Writes the file; ComfyUI has been imported into this process."""
    nodes = importlib.import_module("..nodes", __package__).load_nodes()
    text = json.dumps(english(nodes), indent=2, ensure_ascii=False)
    (ROOT / "locales" / "en" / "nodeDefs.json").write_text(text + "\n", encoding="utf-8")
