"""PASD, its light variant, the RRDB encoder and colorization, beside Stable Diffusion 1.x."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from ...common.diffusion import ForwardProcess
from ..base import Base
from ..config import Config, path
from ..opened import Opened
from ..restoration import Way, branch_restorer
from .common import base_of, begin, metadata, pairs_of

WAY = Way("pasd_unipc", "pasd_unipc", "pasd", noise_level=900)


@dataclass(frozen=True)
class Model:
    base: str = path()
    """A checkpoint of Stable Diffusion 1.5, by path or by its name in models/checkpoints."""
    variant: Literal["pasd", "pasd_light"] = "pasd"
    rrdb: bool = False
    """The image encoder with dense blocks. The published script cannot start one."""
    color: bool = False
    """The loss of colorization; the damaged partner is then the gray picture."""
    zero_start: bool = False
    """Not as published: the added attention begins without effect."""
    start_from: tuple[str, ...] = path(())
    """The two files of a release, control network first, to go on from."""


def open_part(config: Config, base: Base | None = None) -> Opened:
    """PASD with its data. base: instead of the file's."""
    from ...pasd.config import PASDConfig
    from ...pasd.trainable import PASDTrainable

    chosen, pairs = config.model, pairs_of(config)
    base = base or base_of(config, 768, "PASD")
    part = PASDTrainable(
        base.unet,
        ForwardProcess.scaled_linear(),
        PASDConfig(**asdict(base.sizes)),
        chosen.variant,
        chosen.rrdb,
        chosen.color,
        moments=base.moments,
        text=base.text,
    )
    begin(config, part, zero_start=chosen.zero_start)
    head = metadata(config, "pasd", variant=chosen.variant)
    restore = branch_restorer(config, part, WAY)
    return Opened(part, pairs, len(pairs), head, {"base": base.digest}, restore=restore)
