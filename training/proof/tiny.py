"""The tiny networks, each in its fresh form."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ...common.diffusion import ForwardProcess
from ...common.state_dict import StateDict
from ..base import Base
from .patches import SCALE, TEXT, NoText, Patches
from .pictures import LABELS, SIDE

WIDTH = 64
"""Of the UNet's first level. Its norms have 32 groups: with one channel in each, no brightness would
pass them."""
PROCESS = ForwardProcess.scaled_linear()
BRANCHES = ("diffbir", "pasd", "seesr")


def torch_default(network: nn.Module) -> None:
    """Torch's own start, biases at zero; the host's layers have none."""
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            bound = 1 / math.sqrt(parameter[0].numel())
            nn.init.uniform_(parameter, -bound, bound)
        else:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)


def fresh_base() -> Base:
    """A UNet that finds no noise yet, as Stable Diffusion's started."""
    from ...common.unet import UNetSizes
    from ...host.trainable_unet import build_unet

    patches = Patches(kept=2)
    config = UNetSizes(
        channels=(WIDTH, 2 * WIDTH),
        num_res_blocks=1,
        depths=(1, 1),
        middle_depth=1,
        context_dim=TEXT,
        use_linear=True,
        num_heads=-1,
        num_head_channels=32,
        in_channels=patches.channels,
    ).unet_config()
    unet = build_unet(config, "cpu")
    torch_default(unet)
    nn.init.zeros_(unet.out[-1].weight)
    return Base(unet, config, patches, NoText(), "proof")


def base_part(base: Base) -> Any:
    """The base as DreamBooth trains it."""
    from ..dreambooth.trainable import DreamBoothTrainable

    return DreamBoothTrainable(base.unet, PROCESS, base.unet_config, **_given(base))


def branch(name: str, base: Base, eyes: nn.Module) -> Any:
    """A fresh branch beside the base, as its published script starts it. eyes: what SeeSR's tagger
    sees."""
    sizes, given = base.sizes, _given(base)
    if name == "diffbir":
        from ...diffbir.config import ControlConfig
        from ...diffbir.trainable import DiffBIRTrainable

        config = ControlConfig.of(sizes)
        part: Any = DiffBIRTrainable(base.unet, PROCESS, config, nn.Identity(), **given)
        part.start()
        return part
    if name == "pasd":
        from ...pasd.config import PASDConfig
        from ...pasd.trainable import PASDTrainable

        part = PASDTrainable(base.unet, PROCESS, PASDConfig(**vars(sizes)), **given)
    else:
        from ...seesr.config import SeeSRConfig
        from ...seesr.trainable import SeeSRTrainable

        part = SeeSRTrainable(base.unet, PROCESS, SeeSRConfig.of(sizes), eyes, **given)
    part.start(1)
    return part


def _given(base: Base) -> Any:
    return {"moments": base.moments, "text": base.text, "scale_factor": SCALE}


def fresh_cleaner() -> Any:
    """A small SwinIR, with the published start."""
    from ...stage1.start import SwinIRSizes
    from ...stage1.trainable import CleanerTrainable

    sizes = SwinIRSizes(
        img_size=SIDE // 4,
        embed_dim=60,
        depths=(2, 2),
        num_heads=(6, 6),
        start_unshuffle=4,
        upscale=4,
    )
    return CleanerTrainable(sizes, seed=1)


def tagger_config() -> Any:
    """RAM in small."""
    from ...tagger.config import TaggerConfig

    return TaggerConfig(
        image_size=SIDE,
        embed_dim=32,
        depths=(2, 2),
        heads=(2, 4),
        window=4,
        labels=len(LABELS),
        query_width=64,
        query_heads=2,
        query_feed_forward=128,
    )


class TaggerLesson(nn.Module):
    """The tagger itself, which learns to name what is in clean pictures. Reads `hq` and `seen`."""

    def __init__(self) -> None:
        from ...tagger.ram import Tagger

        super().__init__()
        self.tagger = Tagger(tagger_config())
        torch_default(self.tagger)
        nn.init.normal_(self.tagger.label_embed)  # in RAM features of words, far from one another

    def forward(self, batch: Any, draws: Any) -> dict[str, Tensor]:
        return {"labels": binary_cross_entropy_with_logits(self.logits(batch["hq"]), batch["seen"])}

    def logits(self, pixels: Tensor) -> Tensor:
        """B 3 H W in 0..1 -> B labels."""
        return self.tagger.logits(self.look(pixels))

    def look(self, pixels: Tensor) -> Tensor:
        """B 3 H W in 0..1 -> B N 512."""
        from ...tagger.ram import tagger_input

        return self.tagger.embed(tagger_input(pixels, SIDE))

    def draw(self, batch: Any, rows: Any) -> dict[str, Tensor]:
        return {}

    def trained(self) -> dict[str, nn.Parameter]:
        return dict(self.tagger.named_parameters())

    def published_state(self) -> dict[str, StateDict]:
        return {"tagger.safetensors": {k: v.detach().clone() for k, v in self.trained().items()}}

    def load_published(self, files: Any) -> None:
        self.tagger.load_state_dict(files["tagger.safetensors"])


def fresh_dape(weights: StateDict) -> Any:
    """A LoRA beside a tagger's weights, with the published start and regularization."""
    from ...tagger.trainable import DAPETrainable

    part = DAPETrainable(weights, tagger_config())
    part.start(1)
    return part
