"""Averaged weights: a smoother network than the last step's, which is exported in its place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class Average:
    """An exponential average of parameters, over few steps while there are few."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        """decay: of the average at every step, near 1."""
        self._parameters, self._decay = dict(parameters), decay
        self._kept = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After a step, counted from 0."""
        decay = min(self._decay, (step + 2) / (step + 11))
        for name, kept in self._kept.items():
            kept.lerp_(self._parameters[name].to(kept.device), 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the parameters are the average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, kept in self._kept.items():
            last = self._parameters[name].detach().to(kept.device, copy=True)
            self._parameters[name].copy_(kept)
            kept.copy_(last)

    def state_dict(self) -> dict[str, Tensor]:
        return self._kept

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, kept in self._kept.items():
            kept.copy_(state[name])
