"""How OSEDiff's script writes its prompt."""

from __future__ import annotations

from ..common.prompts import PromptStyle

PROMPTS = {"osediff": PromptStyle(form="seesr")}
"""Tags, then the user's words, with SeeSR's commas and without its added words: "tag1, tag2, ,". PiSA-SR
has no prompt at all: `plain`, left empty."""
