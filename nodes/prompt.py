"""Prompts as the authors of each method write them."""

from __future__ import annotations

from comfy_api.latest import io

from ..common.prompts import PROMPT_STYLES, positive_prompt
from ..common.prompts import negative_prompt as _negative
from ..host.schema import schema


class RestorationPrompt(io.ComfyNode):
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
                    options=list(PROMPT_STYLES),
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
        written = PROMPT_STYLES[style]
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


NODES: list[type[io.ComfyNode]] = [RestorationPrompt]
