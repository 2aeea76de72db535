"""How the notes of the shipped workflows tell of a weight file."""

from __future__ import annotations

from .. import registry


def file_row(name: str) -> str:
    """Where from, where to, how large."""
    file = registry.files()[name]
    return f"- [{name}]({file.url}) → `ComfyUI/{file.place}` ({file.size_text})"
