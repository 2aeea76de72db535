"""SeeSR's second stage beside Stable Diffusion 2-base: control network and the UNet's RCAs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...common.diffusion import ForwardProcess
from ..base import Base, model_file, read_weights
from ..config import Config, path
from ..opened import Opened
from ..restoration import Way, branch_restorer
from .common import base_of, begin, metadata, pairs_of, tagger_weights

WAY = Way("seesr_ddpm", "seesr_ddpm", "seesr")


@dataclass(frozen=True)
class Model:
    base: str = path()
    """A checkpoint of Stable Diffusion 2-base, which predicts noise."""
    ram: str = path("ram_swin_large_14m.pth")
    """The tagger, by path or by its name in models/restoration."""
    dape: str = path("DAPE.pth")
    """What makes it see through damage: published, or trained as `dape`."""
    zero_start: bool = False
    """Not as published: the RCAs begin without effect."""
    start_from: tuple[str, ...] = path(())
    """The two files of a release, control network first, to go on from."""


class Eyes(nn.Module):
    """The tagger's look at a damaged picture."""

    def __init__(self, network: Any, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, pixels: Tensor) -> Tensor:
        """B 3 H W in 0..1 -> B N 512: resized by bicubic without antialiasing, and clamped."""
        from torch.nn.functional import interpolate

        from ...tagger.ram import tagger_input

        small = interpolate(pixels.float(), (self.size, self.size), mode="bicubic").clamp(0, 1)
        return self.network.embed(tagger_input(small, self.size))


def open_part(config: Config, base: Base | None = None, eyes: nn.Module | None = None) -> Opened:
    """SeeSR with its data. base, eyes: instead of the files'."""
    from ...seesr.config import SeeSRConfig
    from ...seesr.trainable import SeeSRTrainable

    chosen, pairs = config.model, pairs_of(config)
    base = base or base_of(config, 1024, "SeeSR")
    part = SeeSRTrainable(
        base.unet,
        ForwardProcess.scaled_linear(),
        SeeSRConfig.of(base.sizes),
        eyes=eyes or _eyes(chosen.ram, chosen.dape),
        moments=base.moments,
        text=base.text,
    )
    begin(config, part, zero_start=chosen.zero_start)
    head = metadata(config, "seesr")
    restore = branch_restorer(config, part, WAY)
    return Opened(part, pairs, len(pairs), head, {"base": base.digest}, restore=restore)


def _eyes(ram: str, dape: str) -> nn.Module:
    from ...tagger.config import RAM
    from ...tagger.keys import dape_pairs, merge_dape
    from ...tagger.ram import Tagger

    weights = tagger_weights(ram)
    lora = read_weights(model_file("restoration", dape, "model.dape"))
    network = Tagger(RAM)
    network.load_state_dict(merge_dape(weights, dape_pairs(lora, weights, dape), 1.0))
    return Eyes(network.eval(), RAM.image_size)
