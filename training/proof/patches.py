"""What stands in the places of the VAE and the text encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

PATCH = 8
"""Pixels of a latent's side, as the VAE's."""
SCALE = 0.25
"""Of the coefficients, for about unit spread."""
TEXT = 16
"""Width of text tokens."""


class Patches(nn.Module):
    """The lowest coefficients of a cosine transform of every 8 x 8: orthonormal, and known to all
    parts as the VAE's posterior."""

    def __init__(self, kept: int = 1) -> None:
        """kept: waves in each direction; 1 keeps the mean alone."""
        super().__init__()
        place = (torch.arange(PATCH) + 0.5) * math.pi / PATCH
        rows = torch.stack([torch.cos(k * place) for k in range(kept)])
        rows = rows / rows.norm(dim=1, keepdim=True)
        waves = torch.einsum("iy,jx->ijyx", rows, rows).flatten(0, 1)
        basis = torch.zeros(3, len(waves), 3, PATCH, PATCH)
        for color in range(3):
            basis[color, :, color] = waves
        self.basis: Tensor
        self.register_buffer("basis", basis.flatten(0, 1))

    @property
    def channels(self) -> int:
        return len(self.basis)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """B 3 H W in -1..1 -> mean, and a logvar of nearly nothing."""
        mean = conv2d(pixels, self.basis, stride=PATCH)
        return mean, torch.full_like(mean, -30.0)

    def encoded(self, pixels: Tensor) -> Tensor:
        """B 3 H W in 0..1 -> B C h w in the model's scale."""
        return SCALE * self(pixels * 2 - 1)[0]

    def decoded(self, latent: Tensor) -> Tensor:
        """B C h w in the model's scale -> B 3 H W in 0..1."""
        return (conv_transpose2d(latent / SCALE, self.basis, stride=PATCH) + 1) / 2


class NoText(nn.Module):
    """In the text encoder's place."""

    def forward(self, captions: list[str]) -> Tensor:
        return torch.zeros(len(captions), 1, TEXT)
