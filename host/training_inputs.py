"""ComfyUI's pictures and conditionings as what training reads, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..common.images import from_image
from ..common.resample import resize

STRETCH = 0.02
"""Share by which the proportions of a picture and its damaged partner may differ: roundings of sizes."""


def pictures_of(images: Sequence[Tensor], name: str) -> list[Tensor]:
    """Every picture of a list of batches, 3 H W in 0..1, float32, on the CPU, its own memory.
    Raises ValueError, naming the input, for what is no picture, and where there is none."""
    rows = [row for batch in images for row in from_image(batch, name)[0]]
    if not rows:
        raise ValueError(
            f"`{name}` holds no picture. Connect Load Image, or a node that loads many."
        )
    return [row.cpu().clamp(0, 1) for row in rows]


def partners_of(damaged: Sequence[Tensor], clean: Sequence[Tensor]) -> list[Tensor]:
    """The damaged partners, at the sizes of the clean pictures: enlarged, bicubic, as the methods
    get to see them. Raises ValueError where they are no partners."""
    if len(damaged) != len(clean):
        raise ValueError(
            f"`lq_images` holds {len(damaged)} pictures and `images` {len(clean)}: each clean "
            "picture needs its damaged one, in the same order."
        )
    for number, (one, other) in enumerate(zip(damaged, clean, strict=True), 1):
        (height, width), (whole, wide) = one.shape[-2:], other.shape[-2:]
        if abs(height * wide - width * whole) > max(STRETCH * height * wide, wide + whole):
            raise ValueError(
                f"Picture {number} of `lq_images` is {width}x{height} (width x height), its partner "
                f"in `images` {wide}x{whole}: the proportions differ, so they show different "
                "things. Bring both lists into the same order, without cropping."
            )
    return [
        resize(one[None], *other.shape[-2:])[0].clamp(0, 1)
        for one, other in zip(damaged, clean, strict=True)
    ]


def texts_for(
    pictures: Sequence[Tensor], width: int, positive: Sequence[Any], empty: Sequence[Any] | None
) -> tuple[list[Tensor], Tensor | None]:
    """(one text for all pictures, or one each; the empty one, if there is any), N D each, float32, on
    the CPU. width: D that the network reads. positive, empty: lists of conditionings.
    Raises ValueError, naming the input, for others."""
    texts = _features(positive, width, "positive")
    if len(texts) not in (1, len(pictures)):
        raise ValueError(
            f"`positive` holds {len(texts)} texts for {len(pictures)} pictures: give one for all of "
            "them, or one for each in their order."
        )
    return texts, _features(empty, width, "empty_text")[0] if empty else None


def _features(conditionings: Sequence[Any], width: int, name: str) -> list[Tensor]:
    rows = [row for each in conditionings for text, _ in each for row in text]
    if not rows:
        raise ValueError(f"`{name}` is empty. Connect CLIP Text Encode.")
    for row in rows:
        if row.shape[-1] != width:
            raise ValueError(
                f"`{name}` has text features {row.shape[-1]} wide; the network to fine-tune reads "
                f"such of {width}. Connect CLIP Text Encode with the CLIP of its checkpoint."
            )
        if not row.isfinite().all():
            raise ValueError(f"`{name}` contains NaN or infinite values: encode the text again.")
    return [row.float().cpu() for row in rows]
