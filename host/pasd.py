"""PASD in the host: its networks, and the branch that a MODEL patch runs at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.ops
import comfy.utils
import torch
from comfy import model_management as mm
from comfy.ldm.modules.attention import CrossAttention, SpatialTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..common.hint_encoder import HintEncoder, hint_encoder_config
from ..common.images import from_image
from ..common.state_dict import CheckpointError, StateDict, check_layout
from ..pasd.checkpoint import (
    ADVICE,
    CONTROL_EXPECTED,
    UNET_EXPECTED,
    added_part,
    config_from,
    control_part,
    depth_of,
    layer_prefix,
    pixel_layers,
)
from ..pasd.config import Layer, PASDConfig, Variant
from .branch import (
    KEY,
    BranchCall,
    BranchResult,
    ImageBranch,
    apply_branch,
    features_of,
)
from .control_encoder import ControlEncoder, control_weights
from .extra_blocks import Block, inner_options, tokens
from .folders import KIND, SAME_FILE
from .loading import load_network, read_file, shapes_of
from .memory import with_room

SIZES = ("context_dim", "model_channels", "channel_mult", "num_res_blocks")
"""What a base model must share with the one PASD was trained on, in the host's words."""
FIDELITY = "fidelity_mask"
PAIR = "Choose unet_name and control_net_name from one release."


class PixelBlock(nn.Module):
    """What `pasd_light` adds to a text transformer's block: attention to the residual's pixels."""

    def __init__(self, layer: Layer, heads: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm2_plus = operations.LayerNorm(layer.channels, **factory)
        self.attn2_plus = CrossAttention(
            layer.channels,
            layer.context_channels,
            heads=heads,
            dim_head=layer.channels // heads,
            operations=operations,
            **factory,
        )

    def forward(self, x: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        """x: B N C, the stream after text attention. context: B N C'. Returns what to add."""
        return self.attn2_plus(self.norm2_plus(x), context, transformer_options=options)


class LightTransformer(nn.Module):
    """What `pasd_light` adds to one text transformer."""

    def __init__(
        self, layer: Layer, depth: int, config: PASDConfig, operations: Any, **factory: Any
    ) -> None:
        super().__init__()
        width = layer.context_channels
        if config.use_linear:
            self.proj_in_plus = operations.Linear(width, width, **factory)
        else:
            self.proj_in_plus = operations.Conv2d(width, width, 1, **factory)
        heads = config.heads(layer.channels)
        blocks = [PixelBlock(layer, heads, operations, **factory) for _ in range(depth)]
        self.transformer_blocks = nn.ModuleList(blocks)
        self._linear = config.use_linear

    def context(self, residual: Tensor) -> Tensor:
        """residual: B C h w, scaled. Returns B (h w) C."""
        if self._linear:
            return self.proj_in_plus(tokens(residual))
        return tokens(self.proj_in_plus(residual))


def pixel_attention(
    variant: Variant, config: PASDConfig, added: StateDict, operations: Any, **factory: Any
) -> nn.ModuleDict:
    """The network that PASD adds to the UNet, by output block; `added` tells the depths."""

    def make(layer: Layer) -> nn.Module:
        depth = depth_of(added, layer_prefix(variant, layer))
        if variant == "pasd_light":
            return LightTransformer(layer, depth, config, operations, **factory)
        heads = config.heads(layer.channels)
        return SpatialTransformer(
            layer.channels,
            heads,
            layer.channels // heads,
            depth=depth,
            context_dim=[layer.context_channels] * depth,
            use_linear=config.use_linear,
            operations=operations,
            **factory,
        )

    return nn.ModuleDict({str(layer.index): make(layer) for layer in pixel_layers(variant, config)})


@dataclass(frozen=True)
class PASDModel:
    """What travels as PASD_MODEL: three networks, each with its own patcher."""

    variant: Variant
    config: PASDConfig
    encoder: Any
    """Patcher of a HintEncoder."""
    control: Any
    """Patcher of a ControlEncoder."""
    attention: Any
    """Patcher of `pixel_attention`'s network."""


def build_encoder(
    weights: StateDict, config: PASDConfig, file: str = "The file", **factory: Any
) -> tuple[HintEncoder, StateDict]:
    """(network, its weights), checked. weights: as `control_part` gives them."""
    try:
        sizes = hint_encoder_config(weights)
    except KeyError as missing:
        raise CheckpointError(
            f"{file} is not {CONTROL_EXPECTED}: its image encoder has no {missing}. {ADVICE}"
        ) from missing
    sizes["out_channels"] = config.channels[0]
    network = HintEncoder(**sizes, **factory)
    check_layout(weights, shapes_of(network), file, "an image encoder of PASD", ADVICE)
    return network, weights


def build_control(
    weights: StateDict, config: PASDConfig, file: str = "The file", **factory: Any
) -> tuple[ControlEncoder, StateDict]:
    """(network, its weights under its own names), checked. weights: as published, without the
    image encoder."""
    network = ControlEncoder(config.unet_config(), **factory)
    placed = control_weights(weights, config.unet_config())
    known = set(map(id, placed.values()))
    strange = {key: value for key, value in weights.items() if id(value) not in known}
    check_layout(placed | strange, shapes_of(network), file, CONTROL_EXPECTED, ADVICE)
    return network, placed


def build_attention(
    variant: Variant, weights: StateDict, config: PASDConfig, file: str = "The file", **factory: Any
) -> tuple[nn.ModuleDict, StateDict]:
    """(network, its weights under its own names), checked. weights: as `added_part` gives them."""
    network = pixel_attention(variant, config, weights, **factory)
    prefixes = {
        str(each.index): layer_prefix(variant, each) for each in pixel_layers(variant, config)
    }
    shapes, published = shapes_of(network), {}
    for name in shapes:
        index, _, rest = name.partition(".")
        published[name] = prefixes[index] + rest
    layout = {published[name]: shape for name, shape in shapes.items()}
    expected = f"{UNET_EXPECTED} for {config.family}, as its control network is"
    check_layout(weights, layout, file, expected, f"{PAIR} {ADVICE}")
    return network, {name: weights[published[name]] for name in shapes}


def pasd_model(
    unet: object,
    control: object,
    unet_file: str = "The UNet",
    control_file: str = "The control network",
    config: PASDConfig | None = None,
) -> PASDModel:
    """The networks in two files' contents (the same twice for a converted file).

    config: only where the files do not tell its sizes (other heads than the published ones).
    Raises CheckpointError.
    """
    variant, added = added_part(unet, unet_file)
    controlled, encoder = control_part(control, control_file)
    config = config or config_from(controlled, control_file)

    return PASDModel(
        variant,
        config,
        load_network(encoder, partial(build_encoder, encoder, config, control_file)),
        load_network(controlled, partial(build_control, controlled, config, control_file)),
        load_network(added, partial(build_attention, variant, added, config, unet_file)),
    )


def load_pasd(unet_name: str, control_net_name: str) -> PASDModel:
    """The networks in two files of the folder `restoration`, or (`SAME_FILE`) in one."""
    if control_net_name == SAME_FILE:
        control_net_name = unet_name
    unet = read_file(KIND, unet_name)
    control = unet if control_net_name == unet_name else read_file(KIND, control_net_name)
    return pasd_model(unet, control, unet_name, control_net_name)


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
        """Of all skips, shallow to deep, and of the middle, before they are scaled."""
        return self.pasd.control.model(
            call.x, call.timesteps, call.context, call.hint, call.y, call.options
        )

    def run(self, call: BranchCall) -> BranchResult:
        residuals, middle = self.residuals(call)
        *residuals, middle = [self._scaled(each, call) for each in (*residuals, middle)]
        if self.pasd.variant == "pasd":
            return BranchResult(residuals, middle, self._transformers(residuals, call))
        return BranchResult(residuals, middle, features=self._contexts(residuals, call))

    def _scaled(self, residual: Tensor, call: BranchCall) -> Tensor:
        residual = residual * self.strength
        mask = call.pixel_masks.get(FIDELITY)
        return residual if mask is None else fidelity_scaled(residual, mask, *self.fidelity_scales)

    def _transformers(self, residuals: list[Tensor], call: BranchCall) -> dict[str, Block]:
        """Variant `pasd`: a transformer after every layer of the decoder."""
        options = inner_options(call.options)

        def block(transformer: nn.Module, context: Tensor) -> Block:
            return lambda h: transformer(h, context=context, transformer_options=options)

        return {
            f"output_blocks.{index}": block(transformer, tokens(residuals[-1 - int(index)]))
            for index, transformer in self.pasd.attention.model.items()
        }

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

    def weighted(self, added: Tensor) -> Tensor:
        """added: rows N C. What is left of it under the mask."""
        if self.mask is None:
            return added
        return added * tokens(interpolate(self.mask, self.residual.shape[-2:], mode="area"))


def light_patches(identity: str) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """(`middle_patch`, `attn2_output_patch`) of a `pasd_light` branch.

    The first keeps the stream before text attention, the only place where it is visible; the
    second adds pixel attention to what text attention adds. The host's dictionary of one block's
    call carries it from one to the other.
    """
    key = f"{KEY}.{identity}.stream"

    def context(extra: dict[str, Any]) -> PixelContext | None:
        place, index = extra.get("block", (None, None))
        features = features_of(extra, identity)
        return features.get(index) if features and place == "output" else None

    def keep(x: Tensor, extra: dict[str, Any]) -> Tensor:
        if context(extra) is not None:
            extra[key] = x
        return x

    def attend(n: Tensor, extra: dict[str, Any]) -> Tensor:
        found = context(extra)
        if found is None:
            return n
        block = found.transformer.transformer_blocks[extra["block_index"]]
        return n + found.weighted(block(extra.pop(key) + n, found.tokens(), inner_options(extra)))

    return keep, attend


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
        keep, attend = light_patches(identity)
        patched.set_model_patch(keep, "middle_patch")
        patched.set_model_patch(attend, "attn2_output_patch")
    return patched


def checked(pasd: object) -> PASDModel:
    if not isinstance(pasd, PASDModel):
        raise ValueError(
            f"`pasd_model` is a {type(pasd).__name__}, not the networks of PASD. Connect Load PASD."
        )
    return pasd


@torch.no_grad()
def preview_pyramid(pasd: object, image: Tensor) -> list[Tensor]:
    """What the image encoder's toRGB heads show: B 3 h w in 0..1 (not clamped) at half, quarter
    and eighth size. image: B H W C in 0..1, any size."""
    encoder = checked(pasd).encoder
    if not encoder.model.has_heads:
        raise ValueError(
            "The image encoder of these PASD files has no toRGB heads, so it cannot show its "
            "pyramid. The heads are left over from training; restoration works without them."
        )
    pixels, _ = from_image(image)
    height, width = pixels.shape[-2:]
    widest = max(p.shape[1] for p in encoder.model.parameters() if p.ndim == 4)
    needed = 4 * height * width * widest

    def rgbs(row: Tensor) -> list[Tensor]:
        return encoder.model.rgbs(row.to(encoder.load_device))

    progress = comfy.utils.ProgressBar(len(pixels))
    shown = []
    for row in pixels.split(1):
        mm.throw_exception_if_processing_interrupted()
        found = with_room(partial(rgbs, row), encoder, needed, "PASD Pyramid Preview")
        shown.append([rgb.to(mm.intermediate_device(), torch.float32) / 2 + 0.5 for rgb in found])
        progress.update(1)
    return [torch.cat(scale) for scale in zip(*shown, strict=True)]
