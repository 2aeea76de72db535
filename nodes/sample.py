"""A photo of the user's, or at first the one that comes with the pack."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from nodes import LoadImage  # pyright: ignore[reportAttributeAccessIssue]  # the host's

from ..host.report import harmless
from ..host.sample_photo import PHOTO, SAMPLE
from ..host.schema import CheckedNode, FileInput, check_value, schema


class RestorationSamplePhoto(CheckedNode):
    """Core's Load Image that has something to load after installation."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationSamplePhoto",
            display_name="Load Photo (with a Sample)",
            category="restoration",
            description="Loads a photo of yours, as Load Image does. Until you choose one it is the "
            "sample that comes with the pack: small, blurred, noisy and heavily compressed, so "
            "there is something to restore.",
            search_aliases=[
                "sample",
                "example",
                "test image",
                "demo",
                "open photo",
                "upload photo",
            ],
            inputs=[
                FileInput(
                    "image",
                    options=[SAMPLE, *LoadImage.INPUT_TYPES()["required"]["image"][0]],
                    default=SAMPLE,
                    upload=io.UploadType.image,
                    optional=True,
                    tooltip="Your photo: choose a file of ComfyUI's input folder, or upload, drop or "
                    "paste one. The first choice is the sample.",
                )
            ],
            outputs=[
                io.Image.Output(tooltip="The photo, upright. The sample has 512 x 400 pixels."),
                io.Mask.Output(
                    tooltip="White where the photo is transparent or was masked in the mask editor, "
                    "as Load Image gives it."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, image: object = None) -> bool | str:  # pyright: ignore
        """Files further down in core's folders count as well, such as those of the mask editor.
        None: linked."""
        if image is None or (isinstance(image, str) and _is_below(image)):
            return True
        try:
            check_value(cls.define_schema().inputs[0], image)
        except ValueError as error:
            return harmless(f"Invalid image file: {error}")  # core's words first
        return True

    @classmethod
    def fingerprint_inputs(cls, image: str = SAMPLE) -> str:
        return LoadImage.IS_CHANGED(_file(image))

    @classmethod
    def execute(cls, image: str = SAMPLE) -> io.NodeOutput:
        problem = cls.validate_inputs(image)
        if problem is not True:
            raise ValueError(problem)
        return io.NodeOutput(*LoadImage().load_image(_file(image)))


def _is_below(image: str) -> bool:
    """Whether a name leads to a file without leaving the folder that it is in."""
    name = Path(folder_paths.annotated_filepath(image)[0])
    return (
        not name.anchor
        and ".." not in name.parts
        and os.path.isfile(folder_paths.get_annotated_filepath(image))
    )


def _file(image: str) -> str:
    """As core's functions take it; the whole path of a file is its name too."""
    return str(PHOTO) if image == SAMPLE else image


NODES: list[type[io.ComfyNode]] = [RestorationSamplePhoto]
