"""What the notes of several workflows say, in English; `notes_zh` has all of them in Chinese."""

from __future__ import annotations

from .files import file_row

CHOOSE = "Choose your photo in **Load Image**, press **Run**.\n\n"
CARDS = (
    "**Your card** (from ComfyUI's own memory formula, not measured; too much is noticed and halved): "
    "6 or 8 GB `tile_size` 512; 12 GB 768; 24 GB 1024.\n\n"
)
"""For the notes of tiled workflows."""
DIALS = "### The three dials that matter\n\n"
FIDELITY = "- `fidelity` in *{node}*: 0.5, the authors' setting. Higher keeps closer to the photo, "
FIDELITY += "lower draws more freely.{more}\n"


def files_note(*names: str) -> str:
    return "### Files\n\n" + "\n".join(map(file_row, names)) + "\n\n"


def fidelity(node: str, more: str = "") -> str:
    """The first of the dials. node: whose it is. more: what it turns."""
    return FIDELITY.format(node=node, more=f" {more}" if more else "")
