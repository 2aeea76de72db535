"""Guidance of the predicted x0 over a part of the run, as a post-CFG function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from ..common.images import from_mask, match_batch
from ..common.schedule import unrounded
from ..diffbir.losses import (
    mean_coef,
)
from .sampling import PercentRange, check_prediction, in_range

KEY = "diffusion_restoration_guidance"

Args = dict[str, Any]
"""What the host hands to a pre- or post-CFG function."""


def next_sigma(sample_sigmas: Tensor, sigma: float) -> float:
    """The next lower noise level of the run: also right between two of them, where samplers of
    second order call the model."""
    lower = sample_sigmas[sample_sigmas < sigma * (1 - 1e-6)]
    return float(lower.max()) if len(lower) else 0.0


class RestorationGuidance(ABC):
    """Post-CFG function that moves x0 toward a target over a part of the run."""

    def __init__(
        self, scale: float, repeat: int, percent: PercentRange, mask: Tensor | None
    ) -> None:
        self.scale, self.repeat, self.percent = scale, repeat, percent
        self.mask = None if mask is None else from_mask(mask)

    def __deepcopy__(self, memo: dict[int, Any]) -> RestorationGuidance:
        # The oldest host deep-copies patches with every clone of the model.
        return self

    def __call__(self, args: Args) -> Tensor:
        x0, model = args["denoised"], args["model"]
        check_prediction(model.model_sampling)
        sigma = float(args["sigma"].flatten()[0])
        if not in_range(model.model_sampling, sigma, self.percent):
            return x0
        sigmas = args["model_options"].get("transformer_options", {}).get("sample_sigmas")
        following = 0.0 if sigmas is None else next_sigma(sigmas, sigma)
        coef = mean_coef(unrounded(sigma), unrounded(following))
        return self.guide(x0, coef, model)

    @abstractmethod
    def guide(self, x0: Tensor, coef: float, model: Any) -> Tensor:
        """x0 after the guidance of one step, B C h w in the model's latent scale. coef: see
        `mean_coef`."""
        ...

    def where(self, x0: Tensor) -> Tensor | float:
        """The mask at the size of x0, B 1 h w; 1 without one."""
        if self.mask is None:
            return 1.0
        mask = match_batch(self.mask[:, None].to(x0), x0.shape[0], "mask")
        return interpolate(mask, x0.shape[-2:], mode="area")
