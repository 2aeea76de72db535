"""The border between ComfyUI's IMAGE (BHWC, 0..1) and the tensors the pack works on (BCHW)."""

from __future__ import annotations

import torch
from torch import Tensor


def from_image(image: Tensor, name: str = "image") -> tuple[Tensor, Tensor | None]:
    """Splits a ComfyUI IMAGE into pixels and alpha, after checking it.

    image: B H W C float, C = 1 (gray, repeated to RGB), 3 or 4 (RGBA).
    Returns pixels B 3 H W float32 and alpha B 1 H W float32 or None.
    Raises ValueError, naming the input, on anything that is not an image.
    """
    if not isinstance(image, Tensor) or image.ndim != 4:
        found = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(
            f"`{name}` must be an IMAGE of shape (batch, height, width, channels), found {found}. "
            "Connect the output of Load Image or of another image node."
        )
    batch, height, width, channels = image.shape
    if 0 in (batch, height, width):
        raise ValueError(
            f"`{name}` is empty: batch {batch}, height {height}, width {width}. "
            "Each must be at least 1; check the crop or the batch selection before this node."
        )
    if channels not in (1, 3, 4):
        raise ValueError(
            f"`{name}` has {channels} channels; expected 1 (gray), 3 (RGB) or 4 (RGBA). "
            "Convert it to RGB before this node."
        )
    pixels = image.movedim(-1, 1).float()  # BHWC -> BCHW
    if not torch.isfinite(pixels).all():
        raise ValueError(
            f"`{name}` contains NaN or infinite values, so a node before this one has failed "
            "(often a VAE or a model in half precision). Decode in float32 or repair that step."
        )
    if channels == 4:
        return pixels[:, :3], pixels[:, 3:]
    return pixels.expand(-1, 3, -1, -1), None


def to_image(pixels: Tensor, alpha: Tensor | None = None, clamp: bool = True) -> Tensor:
    """B 3 H W (and alpha B 1 H W) back to a ComfyUI IMAGE, B H W 3 or 4.

    clamp: to 0..1, what IMAGE sockets usually carry.
    """
    if alpha is not None:
        pixels = torch.cat([pixels, alpha.to(pixels).clamp(0, 1)], 1)
    image = pixels.movedim(1, -1)
    return (image.clamp(0, 1) if clamp else image).contiguous()


def match_batch(tensor: Tensor, batch: int, name: str) -> Tensor:
    """Repeats `tensor` (B ...) to `batch` rows, in the order in which latents are repeated.

    One row serves every image. Raises ValueError when the rows cannot be shared out evenly.
    """
    rows = tensor.shape[0]
    if batch % rows:
        raise ValueError(
            f"`{name}` has {rows} images, but there are {batch} images to go with it. "
            f"Give it 1 image or {batch} (or a number that divides {batch})."
        )
    if rows == 1:
        return tensor.expand(batch, *tensor.shape[1:])
    return tensor if rows == batch else tensor.repeat(batch // rows, *[1] * (tensor.ndim - 1))
