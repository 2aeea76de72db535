"""What is in a picture, and prompts as the authors of each method write them."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from .. import registry
from ..common.images import from_image
from ..common.prompts import negative_prompt as _negative
from ..common.prompts import positive_prompt
from ..host.folders import KIND
from ..host.loading import fingerprint
from ..host.schema import CheckedNode, FileInput, schema
from ..tagger.load import NONE, classifier_files, folder_fingerprint, model_folders
from ..tagger.run import high_level_information


class HighLevelPrompt(CheckedNode):
    """What a classifier, a detector and a captioner see."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HighLevelPrompt",
            display_name="High-Level Prompt (PASD: Describe the Photo)",
            category="restoration/prompt",
            description="Says in words what a photo shows, as PASD prompts itself: the class, the "
            "objects counted, a caption. Connect the texts to Restoration Prompt. Each of the "
            "three networks is optional and lies in models/restoration; nothing is downloaded.",
            search_aliases=["caption", "describe image", "blip", "detect objects", "classify"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The photo as it was loaded, before it is enlarged or cleaned: that "
                    "is what the authors show these networks. Every image of a batch gets its own "
                    "texts.",
                ),
                FileInput(
                    "classifier",
                    options=classifier_files(),
                    tooltip="torchvision's ResNet-50 (resnet50-11ad3fa6.pth). It names one of 1000 "
                    "classes where it is at least 10 % sure. none: the text is empty.",
                ),
                FileInput(
                    "detector",
                    options=model_folders(),
                    tooltip="A folder with an object detector of transformers, such as YOLOS or "
                    "DETR. none: the text is empty.",
                ),
                FileInput(
                    "captioner",
                    options=model_folders(),
                    tooltip="A folder with a captioner of transformers, such as BLIP. Words that "
                    "name damage are replaced: blurry by clear, noisy by clean. none: the text is "
                    "empty.",
                ),
                io.Float.Input(
                    "confidence",
                    default=0.5,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    tooltip="How sure the detector must be of an object. Lower counts more in bad "
                    "photos, and more that is not there. Without effect without a detector.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="classes",
                    tooltip="Such as: tabby. For the input of that name of Restoration Prompt.",
                    is_output_list=True,
                ),
                io.String.Output(
                    display_name="objects",
                    tooltip="Such as: 2 person, 1 dog, the surest first. For the input of that "
                    "name of Restoration Prompt.",
                    is_output_list=True,
                ),
                io.String.Output(
                    display_name="caption",
                    tooltip="A sentence. For the input of that name of Restoration Prompt.",
                    is_output_list=True,
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, classifier: str, detector: str, captioner: str, **_: object
    ) -> list[object]:
        return [
            None if classifier == NONE else fingerprint(KIND, classifier),
            *(None if name == NONE else folder_fingerprint(name) for name in (detector, captioner)),
        ]

    @classmethod
    def execute(
        cls, image: Tensor, classifier: str, detector: str, captioner: str, confidence: float
    ) -> io.NodeOutput:
        pixels, _ = from_image(image)
        return io.NodeOutput(
            *high_level_information(pixels, classifier, detector, captioner, confidence)
        )


class RestorationPrompt(CheckedNode):
    """What is in the picture, and the authors' own words, as two texts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationPrompt",
            display_name="Restoration Prompt",
            category="restoration/prompt",
            description="Puts together the positive and the negative prompt in the form that the "
            "authors of a method use, with their own default words. Connect both texts to CLIP "
            "Text Encode. Guidance was tuned with exactly these words.",
            search_aliases=["negative prompt", "default prompt", "quality tags"],
            inputs=[
                io.Combo.Input(
                    "style",
                    display_name="words of",
                    options=list(registry.prompts()),
                    default="diffbir_v2",
                    tooltip="Whose words to use; take the one of the weights you sample with. "
                    "plain: none, only what you enter here.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="Your own words about the picture. Empty is fine, and the default of "
                    "every author.",
                ),
                io.String.Input(
                    "negative_prompt",
                    default="",
                    multiline=True,
                    tooltip="Your own words for what to avoid, added behind the authors'. Empty "
                    "leaves theirs alone.",
                ),
                io.String.Input(
                    "caption",
                    optional=True,
                    force_input=True,
                    tooltip="A sentence about the picture from any captioner. Words that name the "
                    "damage, such as blurry, are replaced where the authors do so.",
                ),
                io.String.Input(
                    "tags",
                    optional=True,
                    force_input=True,
                    tooltip="Tags separated by commas, as SeeSR's tagger gives them.",
                ),
                io.String.Input(
                    "classes",
                    optional=True,
                    force_input=True,
                    tooltip="What a classifier sees, as PASD uses it.",
                ),
                io.String.Input(
                    "objects",
                    optional=True,
                    force_input=True,
                    tooltip="What a detector counts, such as: 2 person, 1 dog. As PASD uses it.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="positive", tooltip="For CLIP Text Encode of the positive prompt."
                ),
                io.String.Output(
                    display_name="negative", tooltip="For CLIP Text Encode of the negative prompt."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        style: str,
        prompt: str,
        negative_prompt: str,
        caption: str = "",
        tags: str = "",
        classes: str = "",
        objects: str = "",
    ) -> io.NodeOutput:
        written = registry.prompts()[style]
        positive = positive_prompt(
            written,
            {
                "caption": caption,
                "tags": tags,
                "classes": classes,
                "objects": objects,
                "prompt": prompt,
            },
        )
        return io.NodeOutput(positive, _negative(written, negative_prompt))


NODES: list[type[io.ComfyNode]] = [HighLevelPrompt, RestorationPrompt]
