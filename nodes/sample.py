"""A photo to try the pack with, there after installation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..host.schema import CheckedNode, schema

PHOTO = Path(__file__).parent.parent / "web" / "photos" / "sample.jpg"
"""Below web/, so that web/sample_photo.js shows it before the first run. Origin and license:
scripts/photo/README.md."""


class RestorationSamplePhoto(CheckedNode):
    """The photo that the shipped workflows begin with; Load Image takes its place."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationSamplePhoto",
            display_name="Sample Photo",
            category="restoration",
            description="A small photo, blurred, noisy and heavily compressed, that comes with the "
            "pack: something to restore before you load a photo of your own with Load Image.",
            search_aliases=["sample", "example", "test image", "demo", "old photo"],
            inputs=[],
            outputs=[io.Image.Output(tooltip="The photo, 512 x 400, RGB.")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        with Image.open(PHOTO) as photo:
            pixels = np.asarray(photo.convert("RGB"), np.float32) / 255
        return io.NodeOutput(torch.from_numpy(pixels)[None])


NODES: list[type[io.ComfyNode]] = [RestorationSamplePhoto]
