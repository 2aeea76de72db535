"""Where files of the user lie: the pack's own model folder, `models/restoration`, and the rule by
which a name leads to a file in any model folder."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from .report import quoted

KIND = "restoration"
SAME_FILE = "the same file"
"""Choice for the control network of a converted file, which holds the UNet's part as well."""
EXTENSIONS = {*folder_paths.supported_pt_extensions, ".onnx"}


def register_folders() -> None:
    """Makes ComfyUI list `models/restoration`; may be called again.

    Folders that an extra_model_paths.yaml names `restoration` stay and are searched as well.
    """
    folder_paths.add_model_folder_path(KIND, os.path.join(folder_paths.models_dir, KIND))
    # ComfyUI gives a folder added this way an empty set, which would mean every file.
    folder_paths.folder_names_and_paths[KIND][1].update(EXTENSIONS)


def find_below(kind: str, name: str, holding: str = "") -> Path | None:
    """The file `name` of a kind of models, or with `holding` the folder of that name that holds such
    a file; None where it is missing.

    name: as a dropdown lists it, so it leads down from one of the kind's places. A link in there
    may point anywhere, its owner has put it there. ValueError for a name that leads out by itself.
    """
    relative = Path(name)
    if relative.anchor or ".." in relative.parts or not relative.parts or "\0" in name:
        raise ValueError(
            f"{quoted(name)} is not the name of something in the folder {kind}: such a name is "
            "relative to that folder and has no `..`. Choose one that the list shows, and move or "
            f"link files from elsewhere into {_places_text(kind)}."
        )
    for place in folder_paths.get_folder_paths(kind):
        found = Path(place) / relative
        if (found / holding).is_file():
            return found
    return None


def find_file(kind: str, name: str) -> Path:
    """`find_below`; FileNotFoundError with advice where it is missing."""
    found = find_below(kind, name)
    if found is None:
        raise FileNotFoundError(
            f"There is no file {quoted(name)} in {_places_text(kind)}. Put it there, or choose "
            "another one."
        )
    return found


def _places_text(kind: str) -> str:
    return " or ".join(folder_paths.get_folder_paths(kind))


def find_restoration_file(name: str) -> str | None:
    """The full path of a file, None where it is missing."""
    register_folders()
    found = find_below(KIND, name)
    return None if found is None else str(found)


def restoration_folder() -> str:
    """Where to put files: for messages."""
    return os.path.join(folder_paths.models_dir, KIND)


def network_files() -> list[str]:
    """Names for a dropdown: the folder also holds the face detector, which is no network of ours."""
    register_folders()
    names = folder_paths.get_filename_list(KIND)
    return [name for name in names if not name.endswith(".onnx")]
