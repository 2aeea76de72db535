"""The forward process of diffusion models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .schedule import TRAINING_STEPS, scaled_linear_alphas, zero_terminal_snr

Prediction = Literal["eps", "v"]


def q_sample(x0: Tensor, noise: Tensor, alpha_bar: float) -> Tensor:
    """sqrt(A) x0 + sqrt(1 - A) noise: x0 at the noise level with cumulative product A
    (Ho et al. 2020, eq. 4), in the variance-preserving scale. A = 1 gives x0, A = 0 the noise."""
    return math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * noise


def posterior_sample(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """A draw from a VAE's posterior (Kingma & Welling 2014), as Stable Diffusion's is trained:
    the logarithm of the variance is kept within -30..20. All of one shape."""
    return mean + (0.5 * logvar.clamp(-30, 20)).exp() * noise


@dataclass(frozen=True)
class ForwardProcess:
    """A training table, row by row: how a timestep mixes picture and noise, and what of them a
    network is asked for."""

    signal: Tensor
    """sqrt(A) of every timestep, float32."""
    noise: Tensor
    """sqrt(1 - A)."""
    prediction: Prediction = "eps"

    @classmethod
    def scaled_linear(
        cls,
        prediction: Prediction = "eps",
        ends: tuple[float, float] = (0.00085, 0.012),
        steps: int = TRAINING_STEPS,
        dtype: torch.dtype = torch.float32,
        zero_snr: bool = False,
    ) -> ForwardProcess:
        """Stable Diffusion's table between two betas. dtype: float32 as diffusers computes it
        (PASD, SeeSR), float64 as ldm does (DiffBIR). zero_snr: stretched so that it ends at pure
        noise (Lin et al. 2024)."""
        alphas = scaled_linear_alphas(*ends, steps=steps, dtype=dtype)
        if zero_snr:
            alphas = zero_terminal_snr(alphas)
        return cls(alphas.sqrt().float(), (1 - alphas).sqrt().float(), prediction)

    def __len__(self) -> int:
        return len(self.signal)

    def _at(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * (like.ndim - 1))
        tables = (table.to(like)[timesteps].reshape(shape) for table in (self.signal, self.noise))
        signal, noise = tables
        return signal, noise

    def noised(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t of every row (Ho et al. 2020, eq. 4). x0, noise: B ...; timesteps: B int64."""
        signal, share = self._at(timesteps, x0)
        return signal * x0 + share * noise

    def target(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the network should answer: the noise, or the velocity (Salimans & Ho 2022)."""
        if self.prediction == "eps":
            return noise
        signal, share = self._at(timesteps, x0)
        return signal * noise - share * x0

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio A / (1 - A) of every row, B."""
        signal, noise = (t.to(timesteps.device)[timesteps] for t in (self.signal, self.noise))
        return (signal / noise) ** 2
