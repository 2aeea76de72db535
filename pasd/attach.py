"""PASD as a patch of MODEL: the branch that runs at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..common.images import from_mask
from ..host.branch import BranchCall, BranchResult, ImageBranch, apply_branch, features_of
from ..host.extra_blocks import inner_options, tokens
from ..host.masks import averaged
from ..host.patching import ModelCall, around_model_calls
from ..host.view import Size
from .config import PASDConfig
from .networks import LightTransformer, PASDModel, pixel_blocks

SIZES = ("context_dim", "model_channels", "channel_mult", "num_res_blocks")
"""What a base model must share with the one PASD was trained on, in the host's words."""
FIDELITY = "fidelity_mask"


def fidelity_scaled(residual: Tensor, mask: Tensor, foreground: float, background: float) -> Tensor:
    """residual times `foreground` where the mask is not zero and `background` elsewhere.

    residual: B C h w. mask: B or 1, 1 H W, sampled at floor(i H / h), the authors' choice.
    """
    inside = interpolate(mask, residual.shape[-2:], mode="nearest") != 0
    return residual * torch.where(inside, foreground, background).to(residual)


class PASDBranch(ImageBranch):
    """The control network, and attention from the decoder to its residuals' pixels (PACA)."""

    def __init__(
        self,
        pasd: PASDModel,
        strength: float = 1.0,
        fidelity_mask: Tensor | None = None,
        fidelity_scales: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        """fidelity_mask: B H W; fidelity_scales: of the residuals where it is not black, and
        elsewhere."""
        self.pasd, self.strength, self.fidelity_scales = pasd, strength, fidelity_scales
        self.patchers = (pasd.encoder, pasd.control, pasd.attention)
        self.residuals_per_cell = pasd.control.model.residuals_per_cell()
        if fidelity_mask is not None:
            rows = fidelity_mask.reshape(-1, 1, *fidelity_mask.shape[-2:])
            self.pixel_masks = {FIDELITY: rows}

    def embed(self, pixels: Tensor) -> Tensor:
        return self.pasd.encoder.model(pixels)

    def residuals(self, call: BranchCall) -> tuple[list[Tensor], Tensor]:
        """The residuals of all skips, shallow to deep, and of the middle, before they are scaled."""
        return self.pasd.control.model(
            call.x, call.timesteps, call.context, call.hint, call.y, call.options
        )

    def run(self, call: BranchCall) -> BranchResult:
        residuals, middle = self.residuals(call)
        *residuals, middle = [self._scaled(each, call) for each in (*residuals, middle)]
        if self.pasd.variant == "pasd":
            blocks = pixel_blocks(self.pasd.attention.model, residuals, call.options)
            return BranchResult(residuals, middle, blocks)
        return BranchResult(residuals, middle, features=self._contexts(residuals, call))

    def _scaled(self, residual: Tensor, call: BranchCall) -> Tensor:
        residual = residual * self.strength
        mask = call.pixel_masks.get(FIDELITY)
        return residual if mask is None else fidelity_scaled(residual, mask, *self.fidelity_scales)

    def _contexts(self, residuals: list[Tensor], call: BranchCall) -> dict[int, PixelContext]:
        """Variant `pasd_light`: what the attention patches of this call find, by output block."""

        return {
            int(index): PixelContext(transformer, residuals[-1 - int(index)], call.mask)
            for index, transformer in self.pasd.attention.model.items()
        }


@dataclass(frozen=True)
class PixelContext:
    """What one text transformer's blocks attend to in a call: made when a block asks for it, so
    that those of all transformers are never held at once."""

    transformer: LightTransformer
    residual: Tensor
    """Rows C h w, scaled."""
    mask: Tensor | None
    """Rows 1 h' w'."""

    def tokens(self) -> Tensor:
        """Rows N C."""
        return self.transformer.context(self.residual)

    def weighted(self, added: Tensor, size: Size) -> Tensor:
        """added: rows N C, N = height x width of the stream's `size`, which patches may have made
        smaller than the residual (Kohya's deep shrink). What is left of it under the mask."""
        if self.mask is None:
            return added
        return added * tokens(averaged(self.mask, size))


Find = Callable[[dict[str, Any]], PixelContext | None]
"""The host's `extra_options` of one text transformer -> what its blocks attend to, if anything."""


def light_patches(find: Find, key: str) -> dict[str, Callable[..., Tensor]]:
    """The two patches of `pasd_light` by the host's names, pure but for one entry `key`.

    A `middle_patch` keeps the stream before text attention, the only place where it is visible; an
    `attn2_output_patch` adds pixel attention to what text attention adds. The host's dictionary of
    one block's call carries it from one to the other.
    """

    def keep(x: Tensor, extra: dict[str, Any]) -> Tensor:
        if find(extra) is not None:
            extra[key] = x
        return x

    def attend(n: Tensor, extra: dict[str, Any]) -> Tensor:
        found = find(extra)
        if found is None:
            return n
        block = found.transformer.transformer_blocks[extra["block_index"]]
        added = block(extra.pop(key) + n, found.tokens(), inner_options(extra))
        height, width = extra["activations_shape"][-2:]
        return n + found.weighted(added, (height, width))

    return {"middle_patch": keep, "attn2_output_patch": attend}


def attach_light(patched: Any, identity: str) -> None:
    """Patches a clone with the attention of a `pasd_light` branch.

    The patches are set within the call, where they come after those of all nodes and of GLIGEN:
    what these change belongs to the stream.
    """

    def find(extra: dict[str, Any]) -> PixelContext | None:
        place, index = extra.get("block", (None, None))
        features = features_of(extra, identity)
        return features.get(index) if features and place == "output" else None

    patches = light_patches(find, f"{identity}.stream")

    def run(executor: Any, call: ModelCall) -> Tensor:
        if features_of(call.options, identity):
            for name, patch in patches.items():
                call = call.with_patch(name, patch)
        return call.run(executor)

    around_model_calls(patched, f"{identity}.attention", run)


def check_base(model: Any, config: PASDConfig) -> None:
    """ValueError unless the model is a UNet of the sizes that PASD was trained with."""
    wanted = {key: config.unet_config()[key] for key in SIZES}
    base = model.model.model_config.unet_config
    found = {key: _listed(base.get(key)) for key in SIZES}
    if found != wanted:
        raise ValueError(
            f"These PASD files belong to {config.family} (text features {config.context_dim} wide, "
            f"channels {_channels(wanted)}); `model` is a {type(model.model).__name__} with text "
            f"features {found['context_dim'] or 'unknown'} wide and channels {_channels(found)}. "
            f"Load a {config.family} checkpoint, or the PASD files of the other family."
        )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _channels(sizes: dict[str, Any]) -> str:
    width, multipliers = sizes["model_channels"], sizes["channel_mult"]
    if width is None or multipliers is None:
        return "unlike any UNet's"
    return ", ".join(str(width * multiplier) for multiplier in multipliers)


def apply_pasd(
    model: Any,
    pasd: object,
    image: Tensor,
    strength: float,
    start_percent: float,
    end_percent: float,
    mask: Tensor | None = None,
    fidelity_mask: Tensor | None = None,
    fidelity_scales: tuple[float, float] = (1.0, 1.0),
) -> Any:
    """A clone of MODEL with PASD. image: B H W C in 0..1, of 8 times the latent's size."""
    pasd = checked(pasd)
    check_base(model, pasd.config)
    if fidelity_mask is not None:
        fidelity_mask = from_mask(fidelity_mask, FIDELITY)
    branch = PASDBranch(pasd, strength, fidelity_mask, fidelity_scales)
    return patched_with(model, branch, image, start_percent, end_percent, mask)


def patched_with(
    model: Any,
    branch: PASDBranch,
    image: Tensor,
    start_percent: float = 0.0,
    end_percent: float = 1.0,
    mask: Tensor | None = None,
) -> Any:
    """A clone of MODEL that runs the branch; see `apply_branch`."""
    patched, identity = apply_branch(model, branch, image, start_percent, end_percent, mask)
    if branch.pasd.variant == "pasd_light":
        attach_light(patched, identity)
    return patched


def checked(pasd: object) -> PASDModel:
    if not isinstance(pasd, PASDModel):
        raise ValueError(
            f"`pasd_model` is a {type(pasd).__name__}, not the networks of PASD. Connect Load PASD."
        )
    return pasd
