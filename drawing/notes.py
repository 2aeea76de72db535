"""What the notes of several workflows say, in English; `notes_zh` has all of them in Chinese."""

from __future__ import annotations

from .files import file_rows, total

CHOOSE = "Choose your photo in **Load Image**, press **Run**.\n\n"
TILES = (
    "- `tile_size` in *{node}*: {size}. A card of 6 or 8 GB takes 512, 12 GB 768, 24 GB 1024 (by "
    "ComfyUI's memory formula, not measured).\n"
)
"""For the notes of tiled workflows."""
DIALS = "**The three dials that matter**\n\n"
FIDELITY = "- `fidelity` in *{node}*: 0.5, the authors' setting. Higher keeps closer to the photo, "
FIDELITY += "lower draws more freely.{more}\n"


def files_note(workflow: str, *names: str, more: str = "") -> str:
    """What has to be there, and the command that fetches it. more: a sentence about the files."""
    return (
        f"**Files**, {total(names)} (or `python -m tools get {workflow}` in the pack's folder): "
        f"{file_rows(names)}. {more}".rstrip()
        + "\n\n"
    )


def fidelity(node: str, more: str = "") -> str:
    """The first of the dials. node: whose it is. more: what it turns."""
    return FIDELITY.format(node=node, more=f" {more}" if more else "")


def opened(title: str) -> str:
    """The note of a workflow that shows what is inside a Restore node. title: of the workflow with
    that node, whose note tells the rest."""
    return (
        f"# {title}, all nodes\n\nWhat stands inside the Restore node, with the same settings: take "
        "it apart, change it, keep it as your own. **Fidelity Dial** turns every `fidelity` at once. "
        f"Files and dials are told in the template **{title}**.\n"
    )
