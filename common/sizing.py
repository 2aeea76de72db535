"""From any picture to a size the networks accept, and back to exactly the asked size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

from .color import ColorCorrection, correct_color
from .fidelity import AUTHORS, blend_weight
from .images import from_image, from_mask, match_batch, to_image
from .resample import pad_to, resize, round_up

Fit = Literal["pad", "stretch", "black"]
Size = tuple[int, int]
"""(height, width) in pixels."""

MAX_PIXELS = 16384**2
"""A square of ComfyUI's own limit for a side; beyond it the working picture would not fit anywhere. A
long and narrow one may have longer sides."""


@dataclass(frozen=True)
class RestoreInfo:
    """What `finish` needs to undo `prepare`."""

    output_size: Size
    """What the user asked for."""
    content_size: Size
    """The part of the working picture that shows the photo; the rest is padding."""
    working_size: Size
    reference: Tensor
    """B 3 H W in 0..1: the photo at content size, the colors to go back to."""
    alpha: Tensor | None
    """B 1 H W of the input, at its own size."""


Rounding = Callable[[float], int]
"""int (truncation) for everyone but DiffBIR's first version, which took math.ceil."""


def _each(size: Size, function: Callable[[int], int]) -> Size:
    return function(size[0]), function(size[1])


def scaled_size(size: Size, factor: float, rounding: Rounding = int) -> Size:
    """int(side * factor), as DiffBIR, PASD and SeeSR count; never below 1."""
    return max(1, rounding(size[0] * factor)), max(1, rounding(size[1] * factor))


def at_least(size: Size, min_side: int, rounding: Rounding = int) -> Size:
    """Enlarges so that the shorter side is exactly `min_side`, the other int(other * ratio).

    A square stays a square: applying the long-side formula to it would lose a pixel for some
    sizes (DiffBIR asserts on those). Sizes that are large enough come back unchanged.
    """
    height, width = size
    short = min(size)
    if short >= min_side:
        return size
    ratio = min_side / short
    return (
        min_side if height == short else rounding(height * ratio),
        min_side if width == short else rounding(width * ratio),
    )


def prepare(
    image: Tensor,
    upscale_by: float,
    min_side: int,
    multiple: int,
    fit: Fit,
    original: Tensor | None = None,
) -> tuple[Tensor, RestoreInfo]:
    """Brings an IMAGE to the working size of a restoration.

    image: B H W C in 0..1 (C = 1, 3, 4), any size. original: the IMAGE that `upscale_by` counts
    from, when a model in between has enlarged it (and lost its alpha). First int(side * upscale_by), the size that
    `finish` gives back; then, if the shorter side is below `min_side`, enlarged to it; then made
    divisible by `multiple`: `pad` mirrors the right and bottom edges, `black` fills them with
    zeros (DiffBIR), `stretch` resizes down to the next multiple (PASD, SeeSR).
    Returns the working IMAGE B H' W' 3 in 0..1 and what `finish` needs.
    """
    if fit not in get_args(Fit):
        raise ValueError(f"`fit` is {fit!r}; choose one of {', '.join(get_args(Fit))}.")
    pixels, alpha = from_image(image)
    size = pixels.shape[-2], pixels.shape[-1]
    if original is not None:
        before, its_alpha = from_image(original, "original")
        size = _size_before(size, (before.shape[-2], before.shape[-1]))
        match_batch(before, pixels.shape[0], "original")  # or this would fail after the sampling
        alpha = its_alpha if alpha is None else alpha
    output = scaled_size(size, upscale_by)
    enlarged = content = at_least(output, min_side)
    if fit == "stretch":
        content = _each(content, lambda side: max(multiple, side // multiple * multiple))
    working = _each(content, lambda side: round_up(side, multiple))
    check_pixels("working", working, size, "upscale_by or min_side")
    # Two or three resamplings, as the authors do, and each of them a no-op where sizes agree.
    pixels = resize(resize(pixels, *output), *enlarged)
    reference = resize(pixels, *content).clamp(0, 1)
    padded = pad_to(reference, *working, mode="zeros" if fit == "black" else "reflect")
    info = RestoreInfo(output, content, working, reference, alpha)
    return to_image(padded), info


def check_pixels(what: str, wanted: Size, size: Size, cause: str) -> None:
    """ValueError where a picture made from one of `size` would be too large. what: which one; cause:
    the inputs that make it so."""
    if math.prod(wanted) > MAX_PIXELS:
        raise ValueError(
            f"The {what} picture would be {wanted[1]}x{wanted[0]} pixels (width x height), "
            f"made from {size[1]}x{size[0]}; at most {MAX_PIXELS / 1e6:.0f} million pixels are "
            f"possible. Lower {cause}, or crop the picture first."
        )


def _size_before(size: Size, original: Size) -> Size:
    """`original`, after checking that it can be the same picture before it was enlarged."""
    if abs(size[0] * original[1] / (size[1] * original[0]) - 1) > 0.05:
        raise ValueError(
            f"`image` is {size[1]}x{size[0]} and `original` {original[1]}x{original[0]}: not one "
            "shape, so not one picture. Connect the photo that the enlarging model was given."
        )
    return original


LOAD_IMAGE_MASK = (1, 64, 64)
"""Shape of the black mask that core's Load Image gives for a picture without one."""


def is_unpainted(mask: Tensor) -> bool:
    """Whether a B H W mask is what Load Image gives where nothing is painted or transparent."""
    return mask.shape == LOAD_IMAGE_MASK and not mask.any()


def mask_at_work(mask: object, info: RestoreInfo, fit: Fit) -> Tensor:
    """A MASK of the photo at the working size of `prepare`, padded as the picture is.

    mask: B H W in 0..1, any resolution, as it lies on the photo; None, or what Load Image gives
    where nothing is painted: everywhere. Returns B H' W' in 0..1; all ones and all zeros stay so
    exactly.
    """
    painted = None if mask is None else from_mask(mask)
    if painted is None or is_unpainted(painted):
        return torch.ones(1, *info.working_size)
    if painted.min() == painted.max():
        return painted[:, :1, :1].expand(-1, *info.working_size).contiguous()
    content = resize(painted[:, None], *info.content_size).clamp(0, 1)
    mode = "zeros" if fit == "black" else "reflect"
    return pad_to(content, *info.working_size, mode=mode)[:, 0]


def with_transparency(info: RestoreInfo, transparency: object) -> RestoreInfo:
    """`info` of a photo whose transparency came beside it, as Load Image's MASK: B H W, 1 is
    transparent. A photo that is opaque, or has an alpha of its own, stays as it is."""
    mask = from_mask(transparency, "transparency")
    if info.alpha is not None or not mask.any():
        return info
    match_batch(mask, info.reference.shape[0], "transparency")
    return replace(info, alpha=1 - mask[:, None])


def _content_of(size: Size, info: RestoreInfo) -> Size:
    """Where the photo lies in a result of `size`, which may be the working size times a simple
    factor (a x2 model in between)."""
    factor = Fraction(size[0], info.working_size[0]).limit_denominator(4)
    if any(
        abs(side - factor * working) >= 1
        for side, working in zip(size, info.working_size, strict=True)
    ):
        raise ValueError(
            f"The image is {size[1]}x{size[0]} (width x height), but the info belongs to a "
            f"working picture of {info.working_size[1]}x{info.working_size[0]}. Connect the "
            "restored version of the same picture; if a VAE cropped it, set `multiple` in "
            "Prepare Restoration to 8 or more."
        )
    return _each(info.content_size, lambda side: max(1, round(side * factor)))


def finish(
    image: Tensor,
    info: RestoreInfo,
    color_correction_method: ColorCorrection,
    reference: Tensor | None = None,
    fidelity: float = AUTHORS,
) -> Tensor:
    """Cuts the padding, corrects the colors, resizes to the asked size, puts the alpha back.

    image: B H W C, the restored working picture. reference: an IMAGE whose colors to take
    instead of the prepared photo's (DiffBIR takes the stage-1 image's); any size. fidelity: above
    0.5 that same picture is blended in, at 1 it is all there is.
    Returns B h w 3, or 4 where the input of `prepare` had alpha, in 0..1.
    """
    if not isinstance(info, RestoreInfo):
        raise ValueError(
            f"`info` is a {type(info).__name__}, not what Prepare Restoration remembers. Connect its "
            "output `restore_info`."
        )
    pixels, _ = from_image(image)
    batch = pixels.shape[0]
    height, width = _content_of((pixels.shape[-2], pixels.shape[-1]), info)
    content = pixels[..., :height, :width]
    weight = blend_weight(fidelity)
    before = info.reference
    if reference is not None and (weight or color_correction_method != "none"):
        before, _ = from_image(reference, "reference")
        if before.shape[-2:] == pixels.shape[-2:]:  # padded like the image: cut alike
            before = before[..., :height, :width]
    if weight or color_correction_method != "none":
        before = match_batch(before, batch, "reference")
        content = correct_color(content, before, color_correction_method)
    content = resize(content, *info.output_size)
    if weight:
        # As both would be seen: what lies beyond white must not outweigh the blend.
        before = resize(before, *info.output_size).clamp(0, 1)
        content = torch.lerp(content.clamp(0, 1), before, weight)
    alpha = info.alpha
    if alpha is not None:
        alpha = resize(match_batch(alpha, batch, "info"), *info.output_size)
    return to_image(content, alpha)
