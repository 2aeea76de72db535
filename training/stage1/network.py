"""The light networks as they begin: spandrel's own classes, so it recognizes what is trained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

RESTORING: dict[str, dict[str, Any]] = {
    "small": {
        "width": 16,
        "enc_blk_nums": [1, 2, 4],
        "middle_blk_num": 6,
        "dec_blk_nums": [2, 2, 1],
    },
    "large": {
        "width": 32,
        "enc_blk_nums": [1, 2, 3],
        "middle_blk_num": 4,
        "dec_blk_nums": [2, 1, 1],
    },
}
"""NAFNets; "small" is the bundled one."""
ENLARGING = {"x2": 2, "x4": 4}
"""Compact networks, by name their factor."""
STRAIGHT = 6
"""Channels whose activation begins as none, so that colors pass from the first layer to the last."""
BLOCK = re.compile(r"(encoders\.\d+|decoders\.\d+|middle_blks)\.\d+\.")
LAST = re.compile(r"body\.\d+\.(weight|bias)")


class FusedNorm(nn.Module):
    """Layer norm over the channels, as NAFNet's own LayerNorm2d, in a form that compilers fuse."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """BCHW -> BCHW."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        x = functional.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, self.eps)
        return x.permute(0, 3, 1, 2)


def make_network(name: str, seed: int = 0) -> nn.Module:
    """A network of RESTORING (B 3 H W in 0..1 -> the same size) or ENLARGING (-> factor times the
    sides), drawn from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _compact(ENLARGING[name]) if name in ENLARGING else _nafnet(name)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _nafnet(name: str) -> nn.Module:
    from spandrel.architectures.NAFNet import NAFNet

    network = NAFNet(img_channel=3, **RESTORING[name])
    for block in list(network.modules()):
        for child_name, child in block.named_children():
            if type(child).__name__ == "LayerNorm2d":
                setattr(block, child_name, FusedNorm(child.get_parameter("weight").numel()))
    return network


def _compact(factor: int) -> nn.Module:
    """Every layer begins near the identity: a plain stack of convolutions then learns as one with
    shortcuts does."""
    from spandrel.architectures.Compact import Compact

    network = Compact(num_feat=32, num_conv=10, upscale=factor)
    layers = [layer for layer in network.body if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for layer in layers[1:-1]:
            layer.weight.mul_(0.5).add_(nn.init.dirac_(torch.empty_like(layer.weight)))
        layers[-1].weight.mul_(0.1)
        for layer in layers[1:]:
            assert layer.bias is not None
            layer.bias.zero_()
        for layer in network.body:
            if isinstance(layer, nn.PReLU):
                layer.weight[:STRAIGHT] = 1.0
    return network


def start_from(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Loads weights of the same width. Blocks of a NAFNet that they lack begin as they are made: they
    do nothing; so does the last layer where the factor is another.

    Raises ValueError where the weights belong to another network.
    """
    have = network.state_dict()
    last = max((key for key in have if LAST.fullmatch(key)), key=_place, default="")
    taken = {k: v for k, v in weights.items() if not last or _place(k) != _place(last)}
    taken |= {k: v for k, v in weights.items() if k in have and have[k].shape == v.shape}
    other = [k for k, v in taken.items() if k not in have or have[k].shape != v.shape]
    lacking = [k for k in have.keys() - weights.keys() if not BLOCK.match(k)]
    if other or lacking:
        raise ValueError(
            f"The weights to start from are of another network: {sorted(other + lacking)[0]!r} does "
            "not fit. Choose the model.network they were trained as, or leave model.start_from out."
        )
    network.load_state_dict({key: value.float() for key, value in taken.items()}, strict=False)


def _place(key: str) -> int:
    return int(key.split(".")[1]) if LAST.fullmatch(key) else -1
