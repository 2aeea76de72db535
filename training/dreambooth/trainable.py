"""DreamBooth in training: its step, and the whole UNet, with the text encoder where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ...common.draws import Draws, Row, normal
from ...common.state_dict import StateDict
from ...host.text_window import TextWindow
from ...host.trainable import Published, renamed
from ...host.trainable_unet import DiffusionTrainable, diffusers_names
from .objective import dreambooth_loss, snr_weights, with_offset


@dataclass(frozen=True)
class DreamBoothSettings:
    """The switches of the published script, in its words, at its defaults."""

    prior_preservation: bool = False
    """The second half of every batch are pictures of the class."""
    prior_loss_weight: float = 1.0
    snr_gamma: float | None = None
    offset_noise: bool = False
    train_text_encoder: bool = False
    lora_rank: int = 4
    """Of `LoRATrainable` alone."""
    lora_alpha: float = 4.0
    """Over the rank, what it weighs."""


class DreamBooth(DiffusionTrainable):
    """Reads of a batch: `hq` or `mean` and `logvar`, `captions`, or `tokens` (B 77) or `text`.
    Terms: `instance`, and `prior`, weighted. What trains is its subclasses' matter."""

    def __init__(
        self,
        unet: Any,
        process: Any,
        unet_config: Mapping[str, Any],
        settings: DreamBoothSettings | None = None,
        **given: Any,
    ) -> None:
        """unet: the base. unet_config: its, in the host's words. given: see `DiffusionTrainable`; to
        train it, `text` must be a `TextWindow`."""
        super().__init__(unet, process, **given)
        self.settings = settings or DreamBoothSettings()
        self.names = diffusers_names(unet, unet_config)
        if self.settings.train_text_encoder and not isinstance(self.text, TextWindow):
            raise ValueError("To train the text encoder, the base needs one: none was given.")

    def classes(self, rows: int) -> int:
        """Pictures of the class in a batch of so many rows."""
        return rows // 2 if self.settings.prior_preservation else 0

    def draw(self, batch: Mapping[str, Any], rows: Sequence[Row]) -> Draws:
        """As `DiffusionTrainable`, and for the offset: offset_noise, B 4 1 1."""
        draws = super().draw(batch, rows)
        if self.settings.offset_noise:
            device, (channels, *_) = self.latent_shape(batch)
            draws["offset_noise"] = normal(rows, "offset_noise", channels, 1, 1).to(device)
        return draws

    def context(self, batch: Mapping[str, Any]) -> Tensor:
        """With gradients where the text encoder trains."""
        if "text" in batch or not isinstance(self.text, TextWindow):
            return super().context(batch)
        tokens = batch["tokens"] if "tokens" in batch else self.text.tokens(batch["captions"])
        return self.text.features(tokens)

    def forward(self, batch: Mapping[str, Any], draws: Draws) -> dict[str, Tensor]:
        settings, z = self.settings, self.target_latent(batch, draws)
        noise, timesteps = draws["noise"], draws["timesteps"]
        if settings.offset_noise:
            noise = with_offset(noise, draws["offset_noise"])
        x = self.process.noised(z, noise, timesteps)
        predicted = self.predict(x, timesteps, self.context(batch), None)
        wanted, classes = self.process.target(z, noise, timesteps), self.classes(len(z))
        weights = None
        if settings.snr_gamma is not None:
            weights = snr_weights(self.process, timesteps, settings.snr_gamma, classes)
        return dreambooth_loss(predicted, wanted, classes, settings.prior_loss_weight, weights)


class DreamBoothTrainable(DreamBooth):
    """The whole UNet, which trains from here on, and the text encoder."""

    files: ClassVar[Mapping[str, str]] = {
        "unet.": "unet/diffusion_pytorch_model.safetensors",
        "text_encoder.": "text_encoder/model.safetensors",
    }
    expected = "a DreamBooth model"

    def __init__(self, *arguments: Any, **given: Any) -> None:
        """See `DreamBooth`."""
        super().__init__(*arguments, **given)
        self.unet.requires_grad_(True)
        if self.settings.train_text_encoder:
            assert isinstance(self.text, TextWindow)
            for parameter in self.text.used().values():
                parameter.requires_grad_(True)

    def published(self) -> Published:
        parts: Published = {"unet.": renamed(self.unet, self.names)}
        if self.settings.train_text_encoder:
            assert isinstance(self.text, TextWindow)
            text = self.text.used().items()
            parts["text_encoder."] = {f"text_model.{name}": p for name, p in text}
        return parts

    def checkpoint_state(self) -> StateDict:
        """The trained UNet under the names of a checkpoint, to lay over the base's own file."""
        return {
            f"model.diffusion_model.{name}": value.detach().float().cpu().clone()
            for name, value in self.unet.named_parameters()
        }
