"""DiffBIR's second stage in training: the whole control network beside a frozen UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ..common.diffusion import ForwardProcess
from ..common.draws import Draws, Row, integers, normal
from ..common.schedule import ZERO_SNR_SIGMA
from ..common.start import start_weights
from ..host.finetune import Batch, Beside, Tuning, with_latents
from ..host.trainable import Published, frozen
from ..host.trainable_base import check_sizes, moments_of, process_of, unet_of
from ..host.trainable_unet import (
    LAYERS,
    Additions,
    DiffusionTrainable,
    run_unet,
    training_options,
)
from .attach import DiffBIRControl
from .config import AUGMENTED, SD21, ControlConfig
from .keys import convert, layout
from .load import diffbir_control
from .networks import DiffBIRControlNet
from .objective import diffbir_loss
from .start import origins


class DiffBIRTrainable(DiffusionTrainable):
    """Reads of a batch: `hq` or `mean` and `logvar`, `lq` or `condition`, `captions` or `text`.
    Term: `prediction`."""

    files: ClassVar[Mapping[str, str]] = {"": "diffbir.safetensors"}
    expected = "the control network of DiffBIR"

    def __init__(
        self,
        unet: UNetModel,
        process: ForwardProcess,
        config: ControlConfig = SD21,
        cleaner: nn.Module | None = None,
        augmentation: int = 0,
        **given: Any,
    ) -> None:
        """unet: the base, frozen here. cleaner: stage 1, B 3 H W in 0..1 -> the same; only needed
        for batches without `condition`. augmentation: the condition is noised to a timestep below
        this (v2.1: 200); 0 leaves it as it is. given: see `DiffusionTrainable`."""
        super().__init__(unet, process, **given)
        self.config, self.augmentation = config, augmentation
        self.cleaner = None if cleaner is None else frozen(cleaner)
        self.control = DiffBIRControlNet(config, **LAYERS)
        self.layout = layout(config)

    def start(self, seed: int = 0) -> None:
        """The published start, from the base. Nothing of it is drawn."""
        base = dict(self.unet.named_parameters())
        table = origins(self.layout, self.config.in_channels)
        weights = start_weights(self.layout, table, base, seed)
        self.load_published({self.files[""]: weights})

    def published(self) -> Published:
        parameters = dict(self.control.named_parameters())
        return {"": {key: parameters[key] for key in self.layout}}

    def draw(self, batch: Mapping[str, Any], rows: Sequence[Row]) -> Draws:
        """As `DiffusionTrainable`, and for the augmentation aug_noise, aug_timesteps."""
        draws = super().draw(batch, rows)
        if self.augmentation:
            device, shape = self.latent_shape(batch)
            draws["aug_noise"] = normal(rows, "aug_noise", *shape).to(device)
            steps = integers(rows, "aug_timesteps", self.augmentation)
            draws["aug_timesteps"] = steps.to(device)
        return draws

    def seen(self, batch: Mapping[str, Any]) -> Tensor:
        """The cleaned picture's latent, B 4 h w, scaled: the mode of the posterior."""
        if "condition" in batch:
            return batch["condition"]
        if self.cleaner is None or self.moments is None:
            raise ValueError(
                "The batch has no condition, and the part has no stage 1 with a VAE to make one."
            )
        with torch.no_grad():
            mode, _ = self.moments(self.cleaner(batch["lq"]) * 2 - 1)
        return self.scale_factor * mode

    def predict(self, x: Tensor, timesteps: Tensor, context: Tensor, seen: Tensor) -> Tensor:
        residuals, middle = self.control(
            torch.cat([x, seen], 1), timesteps.float(), context, options=training_options()
        )
        return run_unet(self.unet, x, timesteps, context, Additions(residuals, middle))

    def forward(self, batch: Mapping[str, Any], draws: Draws) -> dict[str, Tensor]:
        z, context = self.target_latent(batch, draws), self.context(batch)
        condition = self.seen(batch)
        if self.augmentation:
            condition = self.process.noised(condition, draws["aug_noise"], draws["aug_timesteps"])
        noise, timesteps = draws["noise"], draws["timesteps"]
        x = self.process.noised(z, noise, timesteps)
        predicted = self.predict(x, timesteps, context, condition)
        return diffbir_loss(predicted, self.process.target(z, noise, timesteps))


TITLE = "DiffBIR"


def tuning(control: DiffBIRControl, beside: Beside) -> Tuning:
    """A loaded control network that learns a little more, beside a copy of the MODEL, whose
    prediction tells the version. Raises ValueError where they do not belong together."""
    network = control.control_model
    config = network.config
    model, vae = beside.needed("model", TITLE), beside.needed("vae", TITLE)
    check_sizes(model, config.sizes, TITLE)
    process, moments = process_of(model), moments_of(vae)
    newest = process.prediction == "v"
    if newest and float(process.noise[-1] / process.signal[-1]) <= ZERO_SNR_SIGMA:
        raise ValueError(
            "`model` predicts velocity on noise levels that end before pure noise, and DiffBIR 2.1 "
            "was trained to pure noise: put DiffBIR Model Sampling before `model`."
        )
    part = DiffBIRTrainable(unet_of(model), process, config, None, AUGMENTED if newest else 0)
    part.load_published({part.files[""]: network.state_dict()})
    assert beside.cleaner is not None
    cleaner = frozen(beside.cleaner())
    latents = with_latents(moments)

    @torch.no_grad()
    def complete(batch: Batch) -> Batch:
        mode, _ = moments(cleaner(batch["lq"]) * 2 - 1)
        return latents(batch) | {"condition": part.scale_factor * mode}

    def result() -> DiffBIRControl:
        (weights,) = part.published_state().values()
        return diffbir_control(convert(weights, config=config), config)

    return Tuning(
        TITLE,
        part,
        result,
        "diffbir_v2.1" if newest else "diffbir_v2",
        text_width=config.context_dim,
        complete=complete,
        beside=[vae.patcher],
        own=[cleaner],
    )
