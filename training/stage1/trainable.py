"""The light networks in training: all of one, from damaged to clean pictures, or small to large ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...common.draws import Draws, Row
from ...common.state_dict import StateDict
from .network import ENLARGING, make_network, start_from

FILE = "weights.safetensors"
FLOORS = {"restoring": 2e-5, "enlarging": 5e-6}
"""An error of one level, 47 dB; half of that."""
HARM = 2.0
"""How many times more an error counts that the network makes itself."""


def log_errors(output: Tensor, clean: Tensor, floor: float) -> Tensor:
    """Each sample's log(MSE + floor): PSNR but for a factor. B 3 H W in 0..1 -> B."""
    return torch.log((output.float() - clean).square().mean((1, 2, 3)) + floor)


def log_mse(output: Tensor, clean: Tensor, floor: float) -> Tensor:
    """Mean over the batch of `log_errors`.

    Every sample counts by its decibels, so nearly clean ones are not drowned by noisy ones. `floor`
    ends the reward, else untouched samples would rule.
    """
    return log_errors(output, clean, floor).mean()


def harm(output: Tensor, damaged: Tensor, clean: Tensor, floor: float) -> Tensor:
    """Mean over the batch of how much farther than its input a sample is from the clean one, in
    `log_errors`; 0 for each that is nearer. B 3 H W in 0..1.

    The mean of decibels alone buys a little on many smooth pictures with much on a textured one.
    """
    farther = log_errors(output, clean, floor) - log_errors(damaged, clean, floor)
    return torch.relu(farther).mean()


class LightTrainable(nn.Module):
    """Reads of a batch: `lq`, `hq`; for the enlarging networks `lq` is smaller. Terms: `log_mse`, and for
    the restoring ones `harm`."""

    def __init__(self, name: str, seed: int = 0) -> None:
        """name: of `network.RESTORING` or `network.ENLARGING`."""
        super().__init__()
        self.network = make_network(name, seed)
        self.enlarges = name in ENLARGING
        self.floor = FLOORS["enlarging" if self.enlarges else "restoring"]

    def forward(self, batch: Mapping[str, Any], draws: Draws) -> dict[str, Tensor]:
        output = self.network(batch["lq"].contiguous(memory_format=torch.channels_last))
        terms = {"log_mse": log_mse(output, batch["hq"], self.floor)}
        if not self.enlarges:
            terms["harm"] = HARM * harm(output, batch["lq"], batch["hq"], self.floor)
        return terms

    def draw(self, batch: Mapping[str, Any], rows: Sequence[Row]) -> Draws:
        """Nothing is drawn beside the damage."""
        return {}

    def trained(self) -> dict[str, nn.Parameter]:
        return dict(self.network.named_parameters())

    def published_state(self) -> dict[str, StateDict]:
        return {FILE: {k: v.detach().cpu().float().clone() for k, v in self.trained().items()}}

    def published_half(self) -> dict[str, StateDict]:
        """In fp16, as the bundled files are."""
        return {FILE: {k: v.half() for k, v in self.published_state()[FILE].items()}}

    def load_published(self, files: Mapping[str, StateDict]) -> None:
        """Also weights of fewer blocks, or of another factor. Raises ValueError for another network."""
        start_from(self.network, files[FILE])
