"""DiffBIR's restoration guidance of the predicted x0."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, Protocol

import torch
from comfy import model_management as mm
from torch import Tensor

from ..common.images import match_batch
from ..common.schedule import unrounded
from ..host.sampling import PercentRange
from ..host.x0_guidance import GuidanceStep, X0Guidance
from .losses import (
    LatentLoss,
    guide_rgb,
    latent_mse_weight,
    mean_coef,
    rgb_direction,
)

BACKWARD_MEMORY = 4
"""Memory of a decode with its backward pass, in units of the host's estimate of a decode: the
tensors kept for the backward pass alone are 2.6 (counted for Stable Diffusion's decoder)."""


class RestorationGuidance(X0Guidance):
    """Moves x0 toward a target so far that the posterior mean of the step moves by the stated
    amount."""

    def __init__(
        self, scale: float, repeat: int, percent: PercentRange, mask: Tensor | None
    ) -> None:
        """repeat: gradient steps for every step of the sampler."""
        super().__init__(percent, mask)
        self.scale, self.repeat = scale, repeat

    def coef(self, step: GuidanceStep) -> float:
        """See `mean_coef`."""
        return mean_coef(unrounded(step.sigma), unrounded(step.next_sigma))


class LatentGuidance(RestorationGuidance):
    """Mean squared error to a latent, in closed form: one multiplication and addition."""

    def __init__(self, target: Tensor, loss: LatentLoss, *settings: Any) -> None:
        """target: B C h w in the model's latent scale. settings: as RestorationGuidance."""
        super().__init__(*settings)
        self.target = target
        self.loss: LatentLoss = loss

    def guide(self, x0: Tensor, step: GuidanceStep) -> Tensor:
        if self.target.shape[1:] != x0.shape[1:]:
            raise ValueError(
                f"The guidance latent has the shape {tuple(self.target.shape[1:])}, the picture "
                f"being sampled {tuple(x0.shape[1:])}. Encode the prepared picture that is "
                "restored, at the same size."
            )
        target = match_batch(self.target.to(x0), x0.shape[0], "latent")
        elements = x0[0].numel()
        weight = latent_mse_weight(self.scale, elements, self.coef(step), self.repeat, self.loss)
        return torch.lerp(x0, target, torch.as_tensor(weight * self.where(x0)).to(x0))


class Comparison(Protocol):
    """What of a decoded picture is compared with the target."""

    def __call__(self, decoded: Tensor, target: Tensor, row: int) -> Tensor:
        """The gradient of half the loss, which is the difference of the two for a squared error; of the
        shape of `decoded`. decoded: 1 3 H W in -1..1. row: its place in the batch. ValueError for a
        target that it does not fit."""
        ...

    def forget(self) -> None:
        """Drops what it keeps of a run, when that ends."""
        ...


class PixelDifference:
    """Pixel by pixel."""

    def __init__(self, weights: Tensor | None = None) -> None:
        """weights: B 1 H W, see `edge_weights`."""
        self.weights = weights

    def __call__(self, decoded: Tensor, target: Tensor, row: int) -> Tensor:
        if decoded.shape[1:] != target.shape[1:]:
            found, expected = target.shape[-2:], decoded.shape[-2:]
            raise ValueError(
                f"The guidance image is {found[1]}x{found[0]}, the picture being sampled "
                f"{expected[1]}x{expected[0]}. Use the prepared picture that is restored."
            )
        difference = decoded - target
        if self.weights is None:
            return difference
        return self.weights[row % len(self.weights)].to(difference) * difference

    def forget(self) -> None: ...


class RgbGuidance(RestorationGuidance):
    """A loss between pictures, through the VAE's decoder.

    A decode and its backward pass for every repeat, step and image. The copy of the decoder that
    this needs lives for one run.
    """

    def __init__(self, target: Tensor, vae: Any, compare: Comparison, *settings: Any) -> None:
        """target: B 3 H W in -1..1. settings: as RestorationGuidance."""
        super().__init__(*settings)
        self.target, self.vae, self.patchers = target, vae, (vae.patcher,)
        self.compare = compare
        self._decoder: Any = None

    def memory_required(self, height: int, width: int) -> float:
        """One image is in work at a time."""
        weights = sum(w.numel() for w in self.vae.first_stage_model.parameters())
        decode = self.vae.memory_used_decode((1, 4, height, width), torch.float32)
        return BACKWARD_MEMORY * decode + weights * torch.float32.itemsize

    def release(self) -> None:
        self._decoder = None
        self.compare.forget()

    def guide(self, x0: Tensor, step: GuidanceStep) -> Tensor:
        if self._decoder is None:
            self._decoder = private_decoder(self.vae.first_stage_model, x0.device)
        decoder = self._decoder

        def decode(latent: Tensor) -> Tensor:
            mm.throw_exception_if_processing_interrupted()
            return decoder.decode(step.model.process_latent_out(latent))

        targets, coef = match_batch(self.target, x0.shape[0], "image").to(x0), self.coef(step)

        def direction(decoded: Tensor, row: int) -> Tensor:
            compared = self.compare(decoded, targets[row : row + 1], row)
            return rgb_direction(compared, self.scale)

        # One image at a time: the backward pass holds all of the decoder's activations.
        guided = [
            guide_rgb(each, decode, partial(direction, row=i), coef, self.repeat)
            for i, each in enumerate(x0.float().split(1))
        ]
        return torch.lerp(x0, torch.cat(guided).to(x0), torch.as_tensor(self.where(x0)).to(x0))


def private_decoder(first_stage: Any, device: torch.device) -> Any:
    """A float32 copy of a VAE without its encoder, on `device`, that gradients can pass through.

    The host's own weights cannot serve: nodes load them in inference mode, often in half
    precision, and dynamic memory management may swap them out behind a module's back.
    """
    memo: dict[int, Any] = {id(getattr(first_stage, "encoder", None)): None}
    with torch.inference_mode(False), torch.no_grad():
        for module in first_stage.modules():
            for name in ("_v", "_pin", "_pin_hostbuf"):  # the host's handles of swapped weights
                if hasattr(module, name):
                    memo[id(getattr(module, name))] = None
        for name, weight in first_stage.named_parameters():
            if not name.startswith("encoder."):
                value = weight.to(device, torch.float32, copy=True)
                memo[id(weight)] = torch.nn.Parameter(value, requires_grad=False)
        decoder = copy.deepcopy(first_stage, memo).to(device, torch.float32)
    for module in decoder.modules():
        for name in ("_v", "_pin", "_pin_hostbuf"):
            module.__dict__.pop(name, None)
    return decoder
