"""The texts the authors restore with, and how they put a prompt together.

Published defaults, read from the authors' command lines and demos: they are part of the method,
because guidance pushes away from exactly these words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Part = Literal["caption", "tags", "classes", "objects", "prompt"]
Form = Literal["joined", "seesr", "seesr_demo"]

DESCRIBED: tuple[Part, ...] = ("caption", "tags", "classes", "objects", "prompt")
"""DiffBIR and SeeSR: what was seen in the picture, then the user's words."""

CLASS_SCORE = 0.1
"""PASD: a classifier that is less sure than this says nothing."""
CLEAN_WORDS = (("blurry", "clear"), ("noisy", "clean"))


@dataclass(frozen=True)
class PromptStyle:
    """How one release writes its prompts."""

    added: str = ""
    """Appended to every positive prompt."""
    negative: str = ""
    order: tuple[Part, ...] = DESCRIBED
    caption_words: tuple[tuple[str, str], ...] = ()
    """Words of the caption that are replaced, because they name the damage."""
    form: Form = "joined"


PLAIN = PromptStyle()
"""No words but the user's."""

QUALITY = "clean, high-resolution, 8k"
DEMO_QUALITY = f"{QUALITY}, best quality, masterpiece"
DEMO_NEGATIVE = (
    "dotted, noise, blur, lowres, oversmooth, longbody, bad anatomy, bad hands, missing fingers, "
    "extra digit, fewer digits, cropped, worst quality, low quality"
)
"""What the demos of PASD and of SeeSR share."""


def _tidy(text: str) -> str:
    """Without blanks and commas at the ends, on one line: a captioner's output may have them."""
    return " ".join(text.split()).strip(", ")


def class_text(scores: Sequence[float], names: Sequence[str]) -> str:
    """The surest class as PASD writes it, without its comma; empty below `CLASS_SCORE`.

    scores: one probability a class, in the order of `names`.
    """
    best = max(range(len(names)), key=scores.__getitem__)
    return names[best] if scores[best] >= CLASS_SCORE else ""


def objects_text(names: Sequence[str]) -> str:
    """Found objects as PASD counts them: "2 person, 1 dog", in order of first appearance."""
    return joined([f"{number} {name}" for name, number in Counter(names).items()])


def caption_text(caption: str) -> str:
    """A captioner's sentence as PASD takes it: one line, not naming the damage it repairs."""
    return _replaced(_tidy(caption), CLEAN_WORDS)


def _replaced(text: str, words: Sequence[tuple[str, str]]) -> str:
    for word, better in words:
        text = text.replace(word, better)
    return text


def joined(parts: Sequence[str]) -> str:
    """The parts that are not empty, joined by ", "."""
    return ", ".join(part for part in parts if part)


def positive_prompt(style: PromptStyle, parts: dict[Part, str]) -> str:
    """The positive prompt as the authors write it; parts that are missing or empty are left out.

    Not copied: PASD's script puts its added words behind a BLIP caption without a separator (the
    words at the seam fuse) and drops the user's words when the classifier is unsure.
    """
    given = {name: _tidy(text) for name, text in parts.items()}
    given["caption"] = _replaced(given.get("caption", ""), style.caption_words)
    ordered = [given.get(name, "") for name in style.order]
    if style.form == "seesr":
        # Sic: "tag1, tag2, ,clean, ...": the script leaves the place of an empty user prompt.
        *described, user = ordered
        seen = joined(described)
        return f"{seen}, {user},{style.added}" if seen else joined([user, style.added])
    text = joined([*ordered, style.added])
    return f"{text}," if style.form == "seesr_demo" else text


def negative_prompt(style: PromptStyle, own: str = "") -> str:
    """The authors' negative prompt with the user's words behind it."""
    own = _tidy(own)
    return joined([style.negative.rstrip(". "), own]) if own else style.negative
