"""PASD's image encoder on a picture by itself."""

from __future__ import annotations

from functools import partial

import comfy.ops
import comfy.utils
import torch
from comfy import model_management as mm
from torch import Tensor

from ..common.images import from_image
from ..host.memory import with_room
from .attach import checked


@torch.no_grad()
def preview_pyramid(pasd: object, image: Tensor) -> list[Tensor]:
    """What the image encoder's toRGB heads show: B 3 h w in 0..1 (not clamped) at half, quarter
    and eighth size. image: B H W C in 0..1, any size."""
    encoder = checked(pasd).encoder
    if not encoder.model.has_heads:
        raise ValueError(
            "The image encoder of these PASD files has no toRGB heads, so it cannot show its "
            "pyramid. The heads are left over from training; restoration works without them."
        )
    pixels, _ = from_image(image)
    height, width = pixels.shape[-2:]
    widest = max(p.shape[1] for p in encoder.model.parameters() if p.ndim == 4)
    needed = 4 * height * width * widest

    def rgbs(row: Tensor) -> list[Tensor]:
        return encoder.model.rgbs(row.to(encoder.load_device))

    progress = comfy.utils.ProgressBar(len(pixels))
    shown = []
    for row in pixels.split(1):
        mm.throw_exception_if_processing_interrupted()
        found = with_room(partial(rgbs, row), encoder, needed, "PASD Pyramid Preview")
        shown.append([rgb.to(mm.intermediate_device(), torch.float32) / 2 + 0.5 for rgb in found])
        progress.update(1)
    return [torch.cat(scale) for scale in zip(*shown, strict=True)]
