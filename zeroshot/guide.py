"""DDNM's null-space projection (Wang et al. 2023, arXiv 2212.00490) of the predicted x0, as
post-CFG guidance."""

from __future__ import annotations

from typing import Any

import torch
from comfy import model_management as mm
from torch import Tensor

from ..common.images import match_batch
from ..host.sampling import PercentRange
from ..host.x0_guidance import GuidanceStep, X0Guidance
from .operators import Operator, project


class NullSpaceGuidance(X0Guidance):
    """Makes every prediction of x0 agree with a measurement, and leaves the rest to the model."""

    def __init__(
        self,
        target: Tensor,
        operator: Operator,
        strength: float,
        percent: PercentRange,
        mask: Tensor | None,
    ) -> None:
        """target: B C h w, at the size that is sampled, or the measurement itself."""
        super().__init__(percent, mask)
        self.target, self.operator, self.strength = target, operator, strength

    def projected(self, x0: Tensor, unit: str) -> Tensor:
        """x0 with the target's measurement where the mask is."""
        measured = self.operator.degrade(x0).shape[1:]
        if self.target.shape[1:] not in (x0.shape[1:], measured):
            (channels, height, width), (_, low, narrow) = x0.shape[1:], measured
            small = f", or the small one, {narrow}x{low}" if (low, narrow) < (height, width) else ""
            raise ValueError(
                f"DDNM's reference is {self.target.shape[-1]}x{self.target.shape[-2]} {unit} with "
                f"{self.target.shape[1]} channels, the picture being sampled {width}x{height} with "
                f"{channels}. Give it a reference of that size{small}."
            )
        target = match_batch(self.target, x0.shape[0], "reference").to(x0)
        if target.shape != x0.shape:
            target = self.operator.invert(target, x0)  # A A+ y is y
        return project(x0, target, self.operator, self.strength * self.where(x0))


class LatentNullSpace(NullSpaceGuidance):
    """The degradation acts on latents in the model's scale: free of cost."""

    def guide(self, x0: Tensor, step: GuidanceStep) -> Tensor:
        return self.projected(x0, "latent cells")


class PixelNullSpace(NullSpaceGuidance):
    """The degradation acts on pixels in 0..1: a VAE decode and encode for every step, so what
    comes after the encoding meets the measurement as well as the VAE repeats a picture."""

    def __init__(self, target: Tensor, vae: Any, *settings: Any) -> None:
        """target: B 3 H W in 0..1. settings: as NullSpaceGuidance."""
        super().__init__(target, *settings)
        self.vae, self.patchers = vae, (vae.patcher,)

    def guide(self, x0: Tensor, step: GuidanceStep) -> Tensor:
        mm.throw_exception_if_processing_interrupted()
        in_use = mm.loaded_models(only_currently_used=True)
        pixels = self.vae.decode(step.model.process_latent_out(x0).float()).movedim(-1, 1)
        encoded = self.vae.encode(self.projected(pixels, "pixels").movedim(1, -1))
        mm.load_models_gpu(in_use)  # the VAE may have pushed the model out
        # The mask acted on pixels; cells with nothing known keep what the VAE would blur.
        known = torch.as_tensor(self.where(x0)).to(x0) > 0
        return torch.where(known, step.model.process_latent_in(encoded).to(x0), x0)
