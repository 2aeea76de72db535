"""DDNM's null-space projection (Wang et al. 2023, arXiv 2212.00490) of the predicted x0, as
post-CFG guidance; with noise in the measurement DiffPIR's proximal step (Zhu et al. 2023, arXiv
2305.08995)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy import model_management as mm
from torch import Tensor

from ..host.one_step import OneStepSampling
from ..host.sampling import PercentRange, check_schedule
from ..host.x0_guidance import GuidanceStep, X0Guidance
from .operators import Operator, Spectral, measured


@dataclass(frozen=True)
class Trust:
    """How a measurement is used."""

    strength: float = 1.0
    """0 leaves x0, 1 meets the measurement."""
    noise_level: float = 0.0
    """Standard deviation of the measurement's noise: pictures in 0..1, or latents in the model's scale."""
    every: int = 1
    """Every so many steps, counted from the last one."""


def check_levels(model_sampling: Any, trust: Trust) -> None:
    """ValueError for a schedule on which a measurement cannot be used so. A picture can be projected
    however it was predicted, also in one step; noise is weighed against the level's."""
    if not isinstance(model_sampling, OneStepSampling):
        check_schedule(model_sampling)
    elif trust.noise_level:
        raise ValueError(
            f"`noise_level` is {trust.noise_level:g}, but {model_sampling.title} restores in one step and "
            "has no noise levels to weigh it against. Set `noise_level` to 0, and `strength` below 1 for "
            "a noisy reference."
        )


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

    def check(self, model_sampling: Any) -> None:
        check_levels(model_sampling, self.trust)

    def acts(self, step: GuidanceStep) -> bool:
        return step.left % self.trust.every == 0

    def measurement(self, like: Tensor, seen: Tensor, unit: str) -> Tensor:
        """y, as the operator gives one of a picture like `like`. seen: A `like`."""
        return measured(self.target, self.operator, like, seen, unit)

    def projected(self, x0: Tensor, unit: str, rho: float) -> Tensor:
        """x0 with the target's measurement where the mask is. rho: see `certainty`; every coordinate moves
        s^2 / (s^2 + rho) of its way, all of it alike where there are none."""
        seen, trust = self.operator.degrade(x0), self.trust.strength * self.where(x0)
        y = self.measurement(x0, seen, unit)
        if rho and isinstance(self.operator, Spectral):
            move = self.operator.filter_measured(y, lambda s: s / (s.square() + rho), x0)
            move = move - self.operator.filter(x0, lambda s: s.square() / (s.square() + rho))
            return x0 + trust * move
        if self.target.shape[1:] == y.shape[1:] != x0.shape[1:]:
            y = self.operator.degrade(self.operator.invert(y, x0))  # the last bit, as it always was
        return x0 - trust / (1 + rho) * self.operator.invert(seen - y, x0)

    def certainty(self, noise_level: float, step: GuidanceStep) -> float:
        """DiffPIR's rho: the measurement's variance over the level's."""
        return (noise_level / step.sigma) ** 2


class LatentNullSpace(NullSpaceGuidance):
    """The degradation acts on latents in the model's scale: free of cost."""

    def guide(self, x0: Tensor, step: GuidanceStep) -> Tensor:
        if not self.acts(step):
            return x0
        return self.projected(x0, "latent cells", self.certainty(self.trust.noise_level, step))


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
        # The level's noise is of a latent, which is about as large as a picture in -1..1.
        rho = self.certainty(2 * self.trust.noise_level, step)
        encoded = self.vae.encode(self.projected(pixels, "pixels", rho).movedim(1, -1))
        mm.load_models_gpu(in_use)  # the VAE may have pushed the model out
        # The mask acted on pixels; cells with nothing known keep what the VAE would blur.
        known = torch.as_tensor(self.where(x0)).to(x0) > 0
        return torch.where(known, step.model.process_latent_in(encoded).to(x0), x0)
