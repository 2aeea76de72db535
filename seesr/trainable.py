"""SeeSR in training: control network with its RCAs, and the RCAs of the UNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ..common.diffusion import ForwardProcess
from ..common.draws import Draws
from ..common.start import start_weights
from ..host.control_encoder import control_weights
from ..host.trainable import TWO_FOLDERS, Published, frozen, inverse, renamed
from ..host.trainable_unet import (
    LAYERS,
    Additions,
    DiffusionTrainable,
    diffusers_names,
    run_unet,
    training_options,
)
from .config import SeeSRConfig
from .keys import ADDED, ENCODER_PREFIX, control_layout, rca_layout, rca_weights
from .networks import SeeSRControlNet, rca_blocks, rca_layers
from .objective import seesr_loss
from .start import origins


class SeeSRTrainable(DiffusionTrainable):
    """Reads of a batch: `lq`, `hq` or `mean` and `logvar`, `captions` or `text` (tags of the
    target, joined by commas), and may read `embeds`. Term: `prediction`.
    """

    files = TWO_FOLDERS
    expected = "a release of SeeSR"

    def __init__(
        self,
        unet: UNetModel,
        process: ForwardProcess,
        config: SeeSRConfig,
        eyes: nn.Module | None = None,
        **given: Any,
    ) -> None:
        """unet: the base, frozen here. eyes: B 3 H W in 0..1 -> B N 512, the tagger's embeddings
        of the damaged picture; only needed for batches without `embeds`. given: see
        `DiffusionTrainable`."""
        super().__init__(unet, process, **given)
        self.config = config
        self.eyes = None if eyes is None else frozen(eyes)
        self.control = SeeSRControlNet(config, **LAYERS)
        self.rca = rca_layers(config.unet_sites, config, **LAYERS)
        self.control_layout = control_layout(config)
        self.rca_layout = rca_layout(config, config.unet_sites)

    def start(self, seed: int, zero_start: bool = False) -> None:
        """The published start, from the base."""
        control, added = origins(self.control_layout, self.rca_layout, zero_start)
        rca = start_weights(self.rca_layout, added, {}, seed)
        names = diffusers_names(self.unet, self.config.unet_config())
        base = renamed(self.unet, names) | rca
        weights = {
            "controlnet.": start_weights(self.control_layout, control, base, seed),
            "unet.": rca,
        }
        self.load_published({self.files[prefix]: value for prefix, value in weights.items()})

    def published(self) -> Published:
        sites, network = self.config.encoder_sites, self.control
        keys = {key: key for key in self.control_layout}
        both = {f"{ENCODER_PREFIX}{key}": p for key, p in network.hint.named_parameters()}
        encoder = {key: key for key in keys if key not in both and ADDED not in key}
        both |= renamed(
            network.encoder, inverse(control_weights(encoder, self.config.unet_config()))
        )
        both |= renamed(network.rca, inverse(rca_weights(keys, sites)))
        added = {key: key for key in self.rca_layout}
        return {
            "controlnet.": {key: both[key] for key in keys},
            "unet.": renamed(self.rca, inverse(rca_weights(added, self.config.unet_sites))),
        }

    def embeds(self, batch: Mapping[str, Any]) -> Tensor:
        """What the tagger sees in the damaged picture, B N 512."""
        if "embeds" in batch:
            return batch["embeds"]
        if self.eyes is None:
            raise ValueError("The batch has no embeddings (embeds), and the part has no tagger.")
        with torch.no_grad():
            return self.eyes(batch["lq"])

    def seen(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        return self.control.hint(batch["lq"]), self.embeds(batch)

    def predict(
        self, x: Tensor, timesteps: Tensor, context: Tensor, seen: tuple[Tensor, Tensor]
    ) -> Tensor:
        (hint, embeds), options = seen, training_options()
        residuals, middle = self.control(x, timesteps.float(), context, hint, embeds, options)
        blocks = rca_blocks(self.rca, self.config.unet_sites, embeds, options)
        return run_unet(self.unet, x, timesteps, context, Additions(residuals, middle, blocks))

    def forward(self, batch: Mapping[str, Any], draws: Draws) -> dict[str, Tensor]:
        z, context = self.target_latent(batch, draws), self.context(batch)
        noise, timesteps = draws["noise"], draws["timesteps"]
        x = self.process.noised(z, noise, timesteps)
        predicted = self.predict(x, timesteps, context, self.seen(batch))
        return seesr_loss(predicted, self.process.target(z, noise, timesteps))
