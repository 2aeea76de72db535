"""The photo that comes with the pack, as a file that ComfyUI can show and open."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import folder_paths

log = logging.getLogger(__name__)

PHOTO = Path(__file__).parent.parent / "web" / "photos" / "sample.jpg"
"""Origin and license: scripts/photo/README.md."""
NAME = "sample photo.jpg"
SAMPLE = f"{NAME} [temp]"
"""The photo among the names of pictures, in ComfyUI's way of writing a file of its temporary folder.
So previews, thumbnails and the mask editor find it, and the user's input folder stays his own."""


def offer_sample() -> None:
    """Puts the photo where `SAMPLE` leads, which ComfyUI empties when it starts and ends. Where
    that fails it is not shown before a run; runs read `PHOTO`."""
    folder = Path(folder_paths.get_temp_directory())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PHOTO, folder / NAME)
    except OSError as error:
        log.warning(
            "Diffusion Restoration: the sample photo cannot be shown before a run, because ComfyUI's "
            "temporary folder takes no file: %s. Workflows run all the same.",
            error,
        )
