"""The words SeeSR's authors restore with."""

from __future__ import annotations

from ..common.prompts import DEMO_NEGATIVE, DEMO_QUALITY, QUALITY, Part, PromptStyle

USER_FIRST: tuple[Part, ...] = ("prompt", "caption", "tags", "classes", "objects")

PROMPTS = {
    "seesr": PromptStyle(
        added=QUALITY, negative="dotted, noise, blur, lowres, smooth", form="seesr"
    ),
    "seesr_demo": PromptStyle(
        added=DEMO_QUALITY, negative=DEMO_NEGATIVE, order=USER_FIRST, form="seesr_demo"
    ),
}
