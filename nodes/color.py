"""Color fixes as nodes of their own."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..common.color import ColorCorrection, correct_color
from ..common.images import from_image, match_batch, to_image
from ..host.schema import CheckedNode, schema


def _fix(image: Tensor, reference: Tensor, method: ColorCorrection) -> io.NodeOutput:
    pixels, alpha = from_image(image)
    colors, _ = from_image(reference, "reference")
    colors = match_batch(colors, pixels.shape[0], "reference")
    return io.NodeOutput(to_image(correct_color(pixels, colors, method), alpha))


def _inputs() -> list[io.Input]:
    return [
        io.Image.Input("image", tooltip="The restored picture, whose details are kept."),
        io.Image.Input(
            "reference",
            tooltip="The picture whose colors to take: usually the one before restoration. "
            "Any size; one picture serves a whole batch.",
        ),
    ]


class WaveletColorFix(CheckedNode):
    """Low frequencies of the reference under the high frequencies of the image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="WaveletColorFix",
            display_name="Restoration Color Fix (Wavelet: Colors and Light)",
            category="restoration/color",
            description="Keeps the fine detail of the image and takes everything coarser than "
            "about 32 pixels, so the colors and the lighting, from the reference. The default of "
            "DiffBIR, PASD and SeeSR. Use it when a result has a color cast.",
            search_aliases=["color match", "colour fix", "color transfer", "stablesr"],
            inputs=_inputs(),
            outputs=[io.Image.Output(tooltip="The image with the reference's colors.")],
        )

    @classmethod
    def execute(cls, image: Tensor, reference: Tensor) -> io.NodeOutput:
        return _fix(image, reference, "wavelet")


class AdaINColorFix(CheckedNode):
    """Mean and standard deviation of every channel, taken from the reference."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AdaINColorFix",
            display_name="Restoration Color Fix (AdaIN: Mean and Contrast)",
            category="restoration/color",
            description="Gives every color channel of the image the mean and the contrast of the "
            "reference. One correction for the whole picture: it leaves no halos, but cannot mend "
            "a cast in one corner. The default of SeeSR's script.",
            search_aliases=["color match", "colour fix", "color transfer"],
            inputs=_inputs(),
            outputs=[io.Image.Output(tooltip="The image with the reference's color statistics.")],
        )

    @classmethod
    def execute(cls, image: Tensor, reference: Tensor) -> io.NodeOutput:
        return _fix(image, reference, "adain")


NODES: list[type[io.ComfyNode]] = [WaveletColorFix, AdaINColorFix]
