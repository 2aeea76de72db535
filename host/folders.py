"""The pack's own model folder, `models/restoration`."""

from __future__ import annotations

import os

import folder_paths

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


def find_restoration_file(name: str) -> str | None:
    """The full path of a file, None where it is missing."""
    register_folders()
    return folder_paths.get_full_path(KIND, name)


def restoration_folder() -> str:
    """Where to put files: for messages."""
    return os.path.join(folder_paths.models_dir, KIND)


def network_files() -> list[str]:
    """Names for a dropdown: the folder also holds the face detector, which is no network of ours."""
    register_folders()
    names = folder_paths.get_filename_list(KIND)
    return [name for name in names if not name.endswith(".onnx")]
