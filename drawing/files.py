"""How the notes of the shipped workflows tell of weight files."""

from __future__ import annotations

from .. import registry
from ..tools.weights.choose import gigabytes


def file_rows(names: tuple[str, ...], comma: str = ", ") -> str:
    """Where from, where to, how large, in one paragraph."""
    files = (registry.files()[name] for name in names)
    return comma.join(
        f"[{file.name}]({file.url}) → `ComfyUI/{file.place}` ({file.size_text})" for file in files
    )


def total(names: tuple[str, ...]) -> str:
    """How large they are together."""
    return gigabytes(sum(registry.files()[name].size for name in names))
