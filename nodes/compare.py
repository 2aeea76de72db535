"""The end of every workflow: the photo and its restoration in one picture, a wipe between them."""

from __future__ import annotations

from comfy_api.latest import io, ui
from torch import Tensor

from ..common.images import check_rows, from_image, to_image
from ..host.schema import CheckedNode, schema

PAIRS = "restoration_compare"
"""The key of the UI output that web/compare.js reads: files of a before and its after, one entry a
pair. No front end takes it for pictures of its own."""


class RestorationCompare(CheckedNode):
    """Before and after as files that the front end draws over each other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationCompare",
            display_name="Compare Before and After",
            category="restoration",
            description="Shows the photo and its restoration in one picture with a line between "
            "them that follows the mouse. The wheel zooms to single pixels, dragging moves the "
            "picture, holding the mouse button or the space bar shows the photo alone.",
            search_aliases=["compare", "before after", "wipe", "slider", "difference", "preview"],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "before",
                    tooltip="The photo as it was, drawn at the size of after. One picture goes "
                    "with every picture of after.",
                ),
                io.Image.Input(
                    "after", tooltip="The restored picture. Any size or batch; alpha is kept."
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="after",
                    tooltip="after, unchanged: for Save Image or whatever comes next.",
                )
            ],
        )

    @classmethod
    def execute(cls, before: Tensor, after: Tensor) -> io.NodeOutput:
        pictures = {
            name: to_image(*from_image(image, name))
            for name, image in (("before", before), ("after", after))
        }
        rows = max(map(len, pictures.values()))
        for name, each in pictures.items():
            check_rows(len(each), rows, name)
        files = {
            name: ui.PreviewImage(each, cls=cls).as_dict()["images"]
            for name, each in pictures.items()
        }
        pairs = [
            {name: each[row % len(each)] for name, each in files.items()} for row in range(rows)
        ]
        # An App draws `images`, the first of them large.
        shown = {"images": [*files["after"], *files["before"]], PAIRS: pairs}
        return io.NodeOutput(after, ui=shown)


NODES: list[type[io.ComfyNode]] = [RestorationCompare]
