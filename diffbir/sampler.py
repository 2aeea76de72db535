"""DiffBIR's noise levels as the host's model_sampling."""

from __future__ import annotations

from typing import Any, Literal

import comfy.model_sampling as ms
import torch
from torch import Tensor

from ..common.schedule import (
    TERMINAL_SIGMA,
    scaled_linear_alphas,
    sigmas_from,
    timesteps_at,
    zero_terminal_snr,
)
from ..host.sampling import check_schedule

Version = Literal["eps", "v2.1"]


class _InterpolatedTime(ms.ModelSamplingDiscrete):
    """Noise levels between two timesteps have a fractional timestep, where the host rounds."""

    def timestep(self, sigma: Tensor) -> Tensor:
        return timesteps_at(self.sigmas.cpu(), sigma.cpu()).to(sigma.device, torch.float32)


def diffbir_model_sampling(model: Any, version: Version, interpolate: bool = False) -> Any:
    """A `model_sampling` object with exactly DiffBIR's noise levels and prediction type."""
    check_schedule(model.get_model_object("model_sampling"))
    base = _InterpolatedTime if interpolate else ms.ModelSamplingDiscrete
    kind = ms.V_PREDICTION if version == "v2.1" else ms.EPS
    sampling: Any = type("DiffBIRSampling", (base, kind), {})(model.model.model_config)
    alphas = scaled_linear_alphas()
    if version == "v2.1":
        alphas = zero_terminal_snr(alphas)
    sampling.zsnr = version == "v2.1"
    sampling.set_sigmas(sigmas_from(alphas).clamp(max=TERMINAL_SIGMA))
    return sampling
