"""What the notes of several workflows say, in English; `notes_zh` has all of them in Chinese."""

from __future__ import annotations

from .files import file_row

CARDS = (
    "**Your card** (from ComfyUI's own memory formula, not measured; too much is noticed and halved)"
    "\n\n| memory | `tile_size` | `tile_batch_size` | `tile_size` of the VAE |\n| --- | --- | --- | --- |"
    "\n| 6 GB | 512 | 1 | 256 |\n| 8 GB | 512 | 2 | 512 |\n| 12 GB | 512 to 768 | 4 | 512 |"
    "\n| 24 GB | 768 to 1024 | 8 | 1024 |\n\n"
)
"""For the notes of tiled workflows."""
DIALS = "### The three dials that matter\n\n"
DIAL = (
    "- `fidelity` in *Fidelity Dial*: 0.5, the authors' setting. Higher keeps closer to the photo, "
    "lower draws more freely."
)
"""One of the notes' three dials; what it turns is said behind it."""


def files_note(*names: str) -> str:
    return "### Files\n\n" + "\n".join(map(file_row, names)) + "\n\n"
