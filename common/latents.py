"""The border between ComfyUI's LATENT (a dictionary) and the tensors the pack works on."""

from __future__ import annotations

from torch import Tensor

from .images import check_finite

ADVICE = "Connect VAE Encode, or the latent of another node for pictures."


def from_latent(latent: object, name: str = "latent", channels: int | None = None) -> Tensor:
    """The samples of a ComfyUI LATENT, after checking them.

    latent: {"samples": B C h w, ...}. channels: C, where it is known which are needed.
    Returns B C h w, float32, in the scale of a LATENT. Raises ValueError, naming the input, on
    anything that is not the latent of pictures.
    """
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if not isinstance(samples, Tensor) or getattr(samples, "is_nested", False):
        found = f"a {type(latent).__name__}" if samples is None else f"a {type(samples).__name__}"
        raise ValueError(f"`{name}` holds no latent of pictures, but {found}. {ADVICE}")
    shape = tuple(samples.shape)
    if samples.ndim != 4:
        video = " A fifth dimension belongs to video models." if samples.ndim == 5 else ""
        raise ValueError(
            f"`{name}` has the shape {shape}; that of pictures is (batch, channels, height, "
            f"width).{video} {ADVICE}"
        )
    if 0 in shape:
        raise ValueError(
            f"`{name}` is empty: its shape is {shape}. Check the crop or the batch selection "
            "before this node."
        )
    if channels is not None and shape[1] != channels:
        raise ValueError(
            f"`{name}` has {shape[1]} channels (shape {shape}); {channels} are needed. Encode the "
            "picture with the VAE that belongs to the model."
        )
    samples = samples.float()
    check_finite(name, samples)
    return samples
