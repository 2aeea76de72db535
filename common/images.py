"""The border between ComfyUI's IMAGE (BHWC, 0..1) and MASK (BHW, 0..1) and the tensors the pack works
on (BCHW)."""

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
        raise ValueError(
            f"`{name}` must be an IMAGE of shape (batch, height, width, channels), found "
            f"{_found(image)}. Connect the output of Load Image or of another image node."
        )
    batch, height, width, channels = image.shape
    _check_filled(name, batch, height, width)
    if channels not in (1, 3, 4):
        raise ValueError(
            f"`{name}` has {channels} channels; expected 1 (gray), 3 (RGB) or 4 (RGBA). "
            "Convert it to RGB before this node."
        )
    pixels = image.movedim(-1, 1).float()  # BHWC -> BCHW
    check_finite(name, pixels)
    if channels == 4:
        return pixels[:, :3], pixels[:, 3:]
    return pixels.expand(-1, 3, -1, -1), None


def from_mask(mask: object, name: str = "mask") -> Tensor:
    """A ComfyUI MASK as B H W, float32, after checking it.

    mask: H W, B H W or B 1 H W, 0..1, at any resolution. Raises ValueError, naming the input, on
    anything that is not a mask.
    """
    if not isinstance(mask, Tensor) or not (
        mask.ndim in (2, 3) or (mask.ndim == 4 and mask.shape[1] == 1)
    ):
        raise ValueError(
            f"`{name}` must be a MASK of shape (batch, height, width), found {_found(mask)}. "
            "Connect the output of a mask node; Convert Image to Mask makes one of a picture."
        )
    batch = 1 if mask.ndim == 2 else mask.shape[0]
    _check_filled(name, batch, *mask.shape[-2:])
    values = mask.reshape(batch, *mask.shape[-2:]).float()
    check_finite(name, values)
    return values


def _found(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _check_filled(name: str, batch: int, height: int, width: int) -> None:
    if 0 in (batch, height, width):
        raise ValueError(
            f"`{name}` is empty: batch {batch}, height {height}, width {width}. "
            "Each must be at least 1; check the crop or the batch selection before this node."
        )


def check_finite(name: str, values: Tensor) -> None:
    """ValueError, naming the input, unless all values of a tensor are numbers."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"`{name}` contains NaN or infinite values, so a node before this one has failed "
            "(often a VAE or a model in half precision). Decode in float32 or repair that step."
        )


def to_image(pixels: Tensor, alpha: Tensor | None = None, clamp: bool = True) -> Tensor:
    """B 3 H W (and alpha B 1 H W) back to a ComfyUI IMAGE, B H W 3 or 4.

    clamp: to 0..1, what IMAGE sockets usually carry.
    """
    if alpha is not None:
        pixels = torch.cat([pixels, alpha.to(pixels).clamp(0, 1)], 1)
    image = pixels.movedim(1, -1)
    return (image.clamp(0, 1) if clamp else image).contiguous()


def check_rows(rows: int, batch: int, name: str) -> None:
    """ValueError, naming the input, unless `rows` images can be shared out evenly over `batch`."""
    if batch % rows:
        raise ValueError(
            f"`{name}` has {rows} images, but there are {batch} images to go with it. "
            f"Give it 1 image or {batch} (or a number that divides {batch})."
        )


def match_batch(tensor: Tensor, batch: int, name: str) -> Tensor:
    """Repeats `tensor` (B ...) to `batch` rows, in the order in which latents are repeated.

    One row serves every image. Raises ValueError when the rows cannot be shared out evenly.
    """
    rows = tensor.shape[0]
    check_rows(rows, batch, name)
    if rows == 1:
        return tensor.expand(batch, *tensor.shape[1:])
    return tensor if rows == batch else tensor.repeat(batch // rows, *[1] * (tensor.ndim - 1))
