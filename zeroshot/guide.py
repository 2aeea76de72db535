"""DDNM's null-space projection (Wang et al. 2023, arXiv 2212.00490) of the predicted x0, as
post-CFG guidance; with noise in the measurement DiffPIR's proximal step (Zhu et al. 2023, arXiv
2305.08995)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy import model_management as mm
from torch import Tensor

from ..common.images import match_batch
from ..host.sampling import PercentRange
from ..host.x0_guidance import GuidanceStep, X0Guidance
from .operators import Operator, Spectral, project


@dataclass(frozen=True)
class Trust:
    """How a measurement is used."""

    strength: float = 1.0
    """0 leaves x0, 1 meets the measurement."""
    noise_level: float = 0.0
    """Standard deviation of the measurement's noise: pictures in 0..1, or latents in the model's scale."""
    every: int = 1
    """Every so many steps, counted from the last one."""


class NullSpaceGuidance(X0Guidance):
    """Makes every prediction of x0 agree with a measurement, and leaves the rest to the model."""

    def __init__(
        self,
        target: Tensor,
        operator: Operator,
        trust: Trust,
        percent: PercentRange,
        mask: Tensor | None,
    ) -> None:
        """target: B C h w, at the size that is sampled, or the measurement itself."""
        super().__init__(percent, mask)
        self.target, self.operator, self.trust = target, operator, trust

    def acts(self, step: GuidanceStep) -> bool:
        return step.left % self.trust.every == 0

    def known(self, like: Tensor, unit: str) -> Tensor:
        """The target for a batch like `like`: at its size, or the measurement. ValueError for any other
        size."""
        measured = self.operator.degrade(like).shape[1:]
        if self.target.shape[1:] not in (like.shape[1:], measured):
            (channels, height, width), (_, low, narrow) = like.shape[1:], measured
            small = f", or the small one, {narrow}x{low}" if (low, narrow) < (height, width) else ""
            raise ValueError(
                f"DDNM's reference is {self.target.shape[-1]}x{self.target.shape[-2]} {unit} with "
                f"{self.target.shape[1]} channels, the picture being sampled {width}x{height} with "
                f"{channels}. Give it a reference of that size{small}."
            )
        return match_batch(self.target, like.shape[0], "reference").to(like)

    def measurement(self, like: Tensor, unit: str) -> Tensor:
        """y, as the operator gives one of a picture like `like`."""
        target = self.known(like, unit)
        return self.operator.degrade(target) if target.shape == like.shape else target

    def projected(self, x0: Tensor, unit: str, weight: float = 1.0) -> Tensor:
        """x0 with the target's measurement where the mask is. weight: of the whole move."""
        target = self.known(x0, unit)
        if target.shape != x0.shape:
            target = self.operator.invert(target, x0)  # A A+ y is y
        return project(x0, target, self.operator, weight * self.trust.strength * self.where(x0))

    def certainty(self, noise_level: float, step: GuidanceStep) -> float:
        """DiffPIR's rho: the measurement's variance over the level's."""
        return (noise_level / step.sigma) ** 2


class LatentNullSpace(NullSpaceGuidance):
    """The degradation acts on latents in the model's scale: free of cost."""

    def guide(self, x0: Tensor, step: GuidanceStep) -> Tensor:
        if not self.acts(step):
            return x0
        rho = self.certainty(self.trust.noise_level, step)
        if not rho:
            return self.projected(x0, "latent cells")
        if not isinstance(self.operator, Spectral):
            return self.projected(x0, "latent cells", 1 / (1 + rho))
        y = self.measurement(x0, "latent cells")
        move = self.operator.filter_measured(y, lambda s: s / (s.square() + rho), x0)
        move = move - self.operator.filter(x0, lambda s: s.square() / (s.square() + rho))
        return x0 + self.trust.strength * self.where(x0) * move


class PixelNullSpace(NullSpaceGuidance):
    """The degradation acts on pixels in 0..1: a VAE decode and encode for every step, so what
    comes after the encoding meets the measurement as well as the VAE repeats a picture."""

    def __init__(self, target: Tensor, vae: Any, *settings: Any) -> None:
        """target: B 3 H W in 0..1. settings: as NullSpaceGuidance."""
        super().__init__(target, *settings)
        self.vae, self.patchers = vae, (vae.patcher,)

    def guide(self, x0: Tensor, step: GuidanceStep) -> Tensor:
        if not self.acts(step):
            return x0
        mm.throw_exception_if_processing_interrupted()
        in_use = mm.loaded_models(only_currently_used=True)
        pixels = self.vae.decode(step.model.process_latent_out(x0).float()).movedim(-1, 1)
        # Through a VAE coordinates are not at hand, so all of the move is weighed alike. The level's
        # noise is of a latent, which is about as large as a picture in -1..1.
        weight = 1 / (1 + self.certainty(2 * self.trust.noise_level, step))
        encoded = self.vae.encode(self.projected(pixels, "pixels", weight).movedim(1, -1))
        mm.load_models_gpu(in_use)  # the VAE may have pushed the model out
        # The mask acted on pixels; cells with nothing known keep what the VAE would blur.
        known = torch.as_tensor(self.where(x0)).to(x0) > 0
        return torch.where(known, step.model.process_latent_in(encoded).to(x0), x0)
