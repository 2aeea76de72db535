"""PASD in training: control network with image encoder, and the attention added to the UNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from ..common.diffusion import ForwardProcess
from ..common.draws import Draws
from ..common.hint_encoder import WIDTHS, HintEncoder, hint_encoder_config
from ..common.start import start_weights
from ..common.unet_layout import diffusers_controlnet
from ..host.control_encoder import ControlEncoder, control_weights
from ..host.finetune import Beside, Tuning, with_latents
from ..host.trainable import TWO_FOLDERS, Published, inverse, renamed
from ..host.trainable_base import moments_of, process_of, unet_of
from ..host.trainable_unet import (
    LAYERS,
    Additions,
    DiffusionTrainable,
    diffusers_names,
    run_unet,
    training_options,
)
from .attach import PixelContext, check_base, checked, light_patches
from .config import PASDConfig, Variant
from .keys import (
    ENCODER_PREFIX,
    attention_layout,
    attention_weights,
    layer_prefix,
    pixel_layers,
)
from .load import pasd_model, published
from .networks import PASDModel, pixel_attention, pixel_blocks
from .objective import pasd_loss
from .start import origins


class PASDTrainable(DiffusionTrainable):
    """Reads of a batch: `lq`, `hq`, `captions` or `text`, and may read `mean` and `logvar`.

    Terms: `prediction`, `head_0` to `head_2`, and with `color` that.
    """

    files = TWO_FOLDERS
    expected = "a release of PASD"

    def __init__(
        self,
        unet: UNetModel,
        process: ForwardProcess,
        config: PASDConfig,
        variant: Variant = "pasd",
        rrdb: bool = False,
        color: bool = False,
        **given: Any,
    ) -> None:
        """unet: the base, frozen here. color: the colorization of the paper, whose picture is the
        gray target. given: see `DiffusionTrainable`."""
        super().__init__(unet, process, **given)
        self.variant: Variant = variant
        self.config, self.color = config, color
        depths = _depths(variant, config)
        width = config.channels[0]
        self.encoder = HintEncoder(WIDTHS, width, rrdb=rrdb, heads=True, **LAYERS)
        self.control = ControlEncoder(config.unet_config(), **LAYERS)
        self.attention = pixel_attention(variant, config, depths, **LAYERS)
        self.control_layout = diffusers_controlnet(config, rrdb=rrdb, heads=True)
        self.attention_layout = attention_layout(variant, config, depths)

    def start(self, seed: int, zero_start: bool = False) -> None:
        """The published start, from the base."""
        control, added = origins(self.control_layout, self.attention_layout, zero_start)
        names = diffusers_names(self.unet, self.config.unet_config())
        base = renamed(self.unet, names)
        weights = {
            "controlnet.": start_weights(self.control_layout, control, base, seed),
            "unet.": start_weights(self.attention_layout, added, {}, seed),
        }
        self.load_published({self.files[prefix]: value for prefix, value in weights.items()})

    def published(self) -> Published:
        encoder = {f"{ENCODER_PREFIX}{key}": p for key, p in self.encoder.named_parameters()}
        keys = {key: key for key in self.control_layout if key not in encoder}
        control = inverse(control_weights(keys, self.config.unet_config()))
        added = {key: key for key in self.attention_layout}
        attention = inverse(attention_weights(self.variant, self.config, added))
        both = renamed(self.control, control) | encoder
        return {
            "controlnet.": {key: both[key] for key in self.control_layout},
            "unet.": renamed(self.attention, attention),
        }

    def seen(self, batch: Mapping[str, Any]) -> tuple[Tensor, list[Tensor]]:
        return self.encoder.with_rgbs(batch["lq"])

    def predict(
        self, x: Tensor, timesteps: Tensor, context: Tensor, seen: tuple[Tensor, list[Tensor]]
    ) -> Tensor:
        hint, _ = seen
        residuals, middle = self.control(
            x, timesteps.float(), context, hint, options=training_options()
        )
        return run_unet(self.unet, x, timesteps, context, self._additions(residuals, middle))

    def forward(self, batch: Mapping[str, Any], draws: Draws) -> dict[str, Tensor]:
        z, context = self.target_latent(batch, draws), self.context(batch)
        noise, timesteps = draws["noise"], draws["timesteps"]
        x = self.process.noised(z, noise, timesteps)
        seen = self.seen(batch)
        predicted, rgbs = self.predict(x, timesteps, context, seen), seen[1]
        wanted = self.process.target(z, noise, timesteps)
        return pasd_loss(predicted, wanted, rgbs, batch["hq"] * 2 - 1, self.color)

    def _additions(self, residuals: list[Tensor], middle: Tensor) -> Additions:
        if self.variant == "pasd":
            blocks = pixel_blocks(self.attention, residuals, training_options())
            return Additions(residuals, middle, blocks)
        contexts = {
            int(index): PixelContext(layer, residuals[-1 - int(index)], None)  # pyright: ignore
            for index, layer in self.attention.items()
        }

        def find(extra: dict[str, Any]) -> PixelContext | None:
            place, index = extra["block"]
            return contexts.get(index) if place == "output" else None

        return Additions(residuals, middle, patches=light_patches(find, "pasd_light.stream"))


TITLE = "PASD"


def tuning(pasd: object, beside: Beside) -> Tuning:
    """A loaded PASD that learns a little more, beside a copy of the MODEL. Raises ValueError where
    the two do not belong together, or PASD has no training here."""
    pasd = checked(pasd)
    if pasd.config.adm_channels is not None:
        raise ValueError(
            "`network` is PASD-SDXL, whose training was not published and is not in this pack. "
            "Fine-tune pasd or pasd_light, with a Stable Diffusion 1.x checkpoint."
        )
    if not pasd.encoder.model.has_heads:
        raise ValueError(
            "`network` is a PASD without toRGB heads, by which its image encoder learns to clean. "
            "Load a release as it was published."
        )
    model, vae = beside.needed("model", TITLE), beside.needed("vae", TITLE)
    check_base(model, pasd.config)
    moments = moments_of(vae)
    added, control = published(pasd)
    rrdb = hint_encoder_config(pasd.encoder.model_state_dict())["rrdb"]
    part = PASDTrainable(unet_of(model), process_of(model), pasd.config, pasd.variant, rrdb)
    part.load_published({part.files["unet."]: added, part.files["controlnet."]: control})

    def result() -> PASDModel:
        files = part.published_state()
        both = files[part.files["unet."]], files[part.files["controlnet."]]
        return pasd_model(*both, config=pasd.config)

    return Tuning(
        TITLE,
        part,
        result,
        "pasd_exact",
        clip=1.0,
        text_width=pasd.config.context_dim,
        complete=with_latents(moments),
        beside=[vae.patcher],
    )


def _depths(variant: Variant, config: PASDConfig) -> dict[str, Any]:
    """Keys that tell how deep the added transformers are, as a file's would: one block each, as
    published, where the UNet has no deeper ones."""
    return {
        f"{layer_prefix(variant, layer)}transformer_blocks.{i}.": None
        for layer in pixel_layers(variant, config)
        for i in range(max(1, layer.depth))
    }
