"""What all parts in training share: one module with everything that a step needs, of which only some
trains, and the way between its parameters and the published files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..common.draws import Draws, Row
from ..common.state_dict import CheckpointError, StateDict, check_layout

Network = TypeVar("Network", bound=nn.Module)
Published = dict[str, dict[str, Tensor]]
"""{prefix: {published key: the parameter}}"""


TWO_FOLDERS = {
    f"{part}.": f"{part}/diffusion_pytorch_model.safetensors" for part in ("controlnet", "unet")
}
"""`Trainable.files` of a release in diffusers' folders."""


def frozen(network: Network) -> Network:
    """The network itself, in eval mode and without gradients for its weights."""
    network.eval()
    return network.requires_grad_(False)


class Trainable(nn.Module, ABC):
    """Base of every `<method>/trainable.py`; the form that `training/part.py` describes.

    Nothing in it depends on train() and eval(): all that training adds (dropout, stochastic depth)
    comes in with the draws, so it stays in eval mode.
    """

    files: ClassVar[Mapping[str, str]]
    """{prefix of trained names: file of a release that holds them}"""
    expected: ClassVar[str]
    """What the files are, for errors."""

    @abstractmethod
    def forward(self, batch: Mapping[str, Any], draws: Draws) -> dict[str, Tensor]:
        """The terms of the loss; see `training/part.py` for these and what follows."""
        ...

    @abstractmethod
    def draw(self, batch: Mapping[str, Any], rows: Sequence[Row]) -> Draws: ...

    @abstractmethod
    def published(self) -> Published:
        """Everything that trains, by prefix and published key, in the order of the files."""
        ...

    def computed(self) -> StateDict:
        """What a file carries beside the parameters."""
        return {}

    def train(self, mode: bool = True) -> Trainable:
        """Stays in eval mode."""
        return super().train(False)

    def trained(self) -> dict[str, nn.Parameter]:
        found: dict[str, nn.Parameter] = {}
        for prefix, keys in self.published().items():
            for key, value in keys.items():
                assert isinstance(value, nn.Parameter)
                found[prefix + key] = value
        return found

    def published_state(self) -> dict[str, StateDict]:
        return {
            self.files[prefix]: {
                key: value.detach().float().cpu().clone()
                for key, value in (keys | self.computed()).items()
            }
            for prefix, keys in self.published().items()
        }

    @torch.no_grad()
    def load_published(self, files: Mapping[str, StateDict]) -> None:
        parts = self.published()
        for prefix, keys in parts.items():
            name = self.files[prefix]
            if name not in files:
                raise CheckpointError(
                    f"{name} is missing: {self.expected} needs {', '.join(self.files.values())}."
                )
            layout = {k: tuple(v.shape) for k, v in keys.items()}
            weights = {k: v for k, v in files[name].items() if k not in self.computed()}
            check_layout(weights, layout, name, self.expected, "Train again, or take another file.")
        for prefix, keys in parts.items():
            for key, parameter in keys.items():
                parameter.copy_(files[self.files[prefix]][key])


def renamed(network: nn.Module, names: Mapping[str, str]) -> dict[str, Tensor]:
    """{published key: parameter of the network}. names: {published key: its name there}, which
    must cover the network."""
    parameters = dict(network.named_parameters())
    left = parameters.keys() - set(names.values())
    assert not left, f"no published name for {sorted(left)[:3]}"
    return {key: parameters[name] for key, name in names.items()}


def inverse(names: Mapping[str, Any]) -> dict[Any, str]:
    """{value: key}"""
    return {value: key for key, value in names.items()}
