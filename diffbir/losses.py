"""Restoration guidance: pulls the predicted x0 toward the stage-1 image (DiffBIR, spec 5).

The gradient is taken with respect to x0 alone, never through the network. `mean_coef` is the
factor of x0 in the posterior mean of the present step: dividing by it makes the mean, not x0,
move by the stated amount.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

LatentLoss = Literal["latent_mse", "latent_mse_v1"]
RgbLoss = Literal["rgb_mse", "rgb_weighted_mse"]

STRENGTH = 3000.0
"""Factor of the scale since v2.0.0; v1 has none."""
LUMA = (0.2989, 0.5870, 0.1140)


def mean_coef(sigma: float, sigma_next: float) -> float:
    """Factor of x0 in the posterior mean, variance-preserving scale, from the host's sigmas:
    beta sqrt(A') / (1 - A) with A = 1 / (1 + sigma^2). Defined for spaced DDPM; the same formula
    carries the guidance to every other sampler."""
    return (1 - (sigma_next / sigma) ** 2) / (1 + sigma_next**2) ** 0.5


def latent_mse_weight(
    scale: float, elements: int, coef: float, repeat: int, loss: LatentLoss = "latent_mse"
) -> float:
    """Share w of the way from x0 to the target latent: the closed form of `repeat` gradient steps
    on the mean squared error of one sample of `elements` values. Above 1 it overshoots.

    `latent_mse_v1` is v1's rule, whose final mean does not use the moved x0 but half the sum of
    its moves: w is the move of x0 that shifts the mean by as much.
    """
    if loss == "latent_mse_v1":
        return 0.5 * (1 - (1 - 2 * scale / elements) ** repeat) / coef
    return 1 - (1 - 2 * STRENGTH * scale / elements / coef) ** repeat


def edge_weights(pixels_pm1: Tensor) -> Tensor:
    """Weight map of the weighted MSE: near 1 in flat areas, near 0 along edges.

    pixels_pm1: B 3 H W in -1..1, H and W even. Returns B 1 H W, constant in blocks of 2x2.
    """
    height, width = pixels_pm1.shape[-2:]
    if height % 2 or width % 2:
        raise ValueError(
            f"The weighted loss works on blocks of 2x2 pixels, but the guidance image is "
            f"{width}x{height}. Use even sides, such as those that Prepare Restoration gives."
        )
    luma = pixels_pm1.new_tensor(LUMA)[None, :, None, None]
    gray = (((pixels_pm1 + 1) / 2) * luma).sum(1, keepdim=True)
    sobel = gray.new_tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    edges = conv2d(pad(gray, (1, 1, 1, 1), "replicate"), torch.stack([sobel, sobel.T])[:, None])
    magnitude = edges.square().sum(1, keepdim=True).sqrt()
    block = torch.tanh(avg_pool2d(magnitude, 2, divisor_override=1))
    return 1 - block.repeat_interleave(2, -2).repeat_interleave(2, -1)


def rgb_direction(difference: Tensor, scale: float) -> Tensor:
    """Update direction in pixel space, B 3 H W: minus the scaled gradient of the mean squared error,
    per sample, whose difference (of pictures in -1..1, weighted or not) this is."""
    return -STRENGTH * scale * (2 / difference[0].numel()) * difference


def guide_rgb(
    x0: Tensor,
    decode: Callable[[Tensor], Tensor],
    direction: Callable[[Tensor], Tensor],
    coef: float,
    repeat: int,
) -> Tensor:
    """x0 after `repeat` gradient steps on a loss in pixel space.

    x0: B C h w in the model's latent scale. decode: that to B 3 H W in -1..1, differentiable and
    not clamped. direction: of what was decoded, see `rgb_direction`. Works inside
    `torch.inference_mode`.
    """
    with torch.inference_mode(False), torch.enable_grad():
        guided = x0.clone()  # born in inference mode, x0 itself cannot enter a graph
        for _ in range(repeat):
            leaf = guided.detach().requires_grad_(True)
            decoded = decode(leaf)
            (delta,) = torch.autograd.grad(decoded, leaf, direction(decoded.detach()))
            guided = leaf.detach() + delta / coef
    return guided
