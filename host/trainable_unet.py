"""The host's UNet inside a training step: built for training, and run with residuals and extra blocks
so that gradients reach both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.latent_formats
import comfy.ops
import comfy.utils
import torch
from comfy.ldm.modules.attention import attention_pytorch, attention_sub_quad
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn

from ..common.diffusion import ForwardProcess, posterior_sample
from ..common.draws import Draws, Row, integers, normal
from .checkpointing import checkpoint_layers
from .extra_blocks import Block, after
from .trainable import Trainable, frozen

SCALE_FACTOR: float = comfy.latent_formats.SD15().scale_factor
"""Of latents, in every Stable Diffusion 1 and 2."""
LAYERS: dict[str, Any] = {
    # manual_cast would round weights to the input's type, which autocast then sees.
    "operations": comfy.ops.disable_weight_init,
    "dtype": torch.float32,
}
"""How every network in training is built."""


def build_unet(unet_config: Mapping[str, Any], device: Any = None) -> UNetModel:
    """The host's UNet, float32, its weights uninitialized. unet_config: in the host's words."""
    return UNetModel(**unet_config, **LAYERS, device=device)


def diffusers_names(network: nn.Module, unet_config: Mapping[str, Any]) -> dict[str, str]:
    """{diffusers' key: the network's} of a UNet."""
    names = dict(network.named_parameters())
    table = comfy.utils.unet_to_diffusers(dict(unet_config))
    return {key: name for key, name in table.items() if name in names}


def exact_attention(_function: Any, query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """For `optimized_attention_override`: a function with an exact backward pass, whatever the host
    has chosen for sampling (Sage attention has none).

    torch's own, but not on the CPU, where its fused backward pass is five times less accurate in
    float32 than the sub-quadratic one.
    """
    attention = attention_sub_quad if query.device.type == "cpu" else attention_pytorch
    return attention(query, *args, **kwargs)


def training_options() -> dict[str, Any]:
    """`transformer_options` of one call; the host writes into it."""
    return {"optimized_attention_override": exact_attention, "patches": {}}


@dataclass(frozen=True)
class Additions:
    """What a branch adds to one call of the UNet."""

    residuals: Sequence[Tensor] = ()
    """One for every input block, to add to its skip."""
    middle: Tensor | None = None
    blocks: Mapping[str, Block] = field(default_factory=dict)
    """What runs after layers (see `extra_blocks.layer_at`)."""
    patches: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    """Further patches by the host's names; pure, since checkpointing runs them twice."""


def run_unet(
    unet: UNetModel,
    x: Tensor,
    timesteps: Tensor,
    context: Tensor,
    additions: Additions | None = None,
) -> Tensor:
    """x: B C h w in the variance-preserving scale. timesteps: B. context: B N D. Returns what the
    network predicts, B C h w.

    The host adds residuals in place, which breaks the backward pass where the encoder trains: here
    they come by a patch, and the middle one by a hook.
    """
    additions = additions or Additions()
    options = training_options()
    patches: dict[str, list[Any]] = {k: [patch] for k, patch in additions.patches.items()}
    options["patches"] = patches
    residuals, middle = additions.residuals, additions.middle
    if residuals:

        def add(h: Tensor, skip: Tensor, extra: dict[str, Any]) -> tuple[Tensor, Tensor]:
            return h, skip + residuals[-1 - extra["block"][1]]

        patches["output_block_patch"] = [add]
    last: dict[str, Block] = {}
    if middle is not None:
        last[f"middle_block.{len(unet.middle_block) - 1}"] = lambda h: h + middle
    with after(unet, additions.blocks), after(unet, last):
        return unet(x, timesteps.float(), context, transformer_options=options)


class DiffusionTrainable(Trainable):
    """A part whose loss is a prediction by the UNet from a noised latent.

    moments: pixels in -1..1 -> (mean, logvar) of the VAE's posterior; text: captions -> B N D. Both
    frozen, both only needed for what a batch does not bring itself.
    """

    def __init__(
        self,
        unet: UNetModel,
        process: ForwardProcess,
        moments: nn.Module | None = None,
        text: nn.Module | None = None,
        scale_factor: float = SCALE_FACTOR,
    ) -> None:
        super().__init__()
        self.unet = frozen(unet)
        self.process, self.scale_factor = process, scale_factor
        self.moments = None if moments is None else frozen(moments)
        self.text = None if text is None else frozen(text)

    def checkpointed(self) -> None:
        """From now on layers are computed again in the backward pass: less memory, the same
        numbers."""
        checkpoint_layers(self)

    def posterior(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """(mean, logvar) of the target, B 4 h w each, not scaled."""
        if "mean" in batch:
            return batch["mean"], batch["logvar"]
        if self.moments is None:
            raise ValueError("The batch has no latents (mean, logvar), and the part has no VAE.")
        with torch.no_grad():
            return self.moments(batch["hq"] * 2 - 1)

    def target_latent(self, batch: Mapping[str, Any], draws: Draws) -> Tensor:
        """A sample of the posterior in the model's scale."""
        mean, logvar = self.posterior(batch)
        return self.scale_factor * posterior_sample(mean, logvar, draws["posterior"])

    def context(self, batch: Mapping[str, Any]) -> Tensor:
        """Text features, B N D."""
        if "text" in batch:
            return batch["text"]
        if self.text is None:
            raise ValueError("The batch has no text features, and the part has no text encoder.")
        with torch.no_grad():
            return self.text(batch["captions"])

    def seen(self, batch: Mapping[str, Any]) -> Any:
        """What a branch makes of the damaged picture, the same at every noise level: for `predict`."""
        return None

    def predict(self, x: Tensor, timesteps: Tensor, context: Tensor, seen: Any) -> Tensor:
        """What the UNet answers with all that is added to it, B 4 h w.

        x: B 4 h w at the noise levels of `timesteps`, B, in the variance-preserving scale. context:
        B N D. seen: what `seen` gave.
        """
        return run_unet(self.unet, x, timesteps, context)

    def latent_shape(self, batch: Mapping[str, Any]) -> tuple[torch.device, tuple[int, ...]]:
        """(device, 4 h w) of the target's latent."""
        if "mean" in batch:
            return batch["mean"].device, tuple(batch["mean"].shape[1:])
        *_, height, width = batch["hq"].shape
        return batch["hq"].device, (self.unet.in_channels, height // 8, width // 8)

    def draw(self, batch: Mapping[str, Any], rows: Sequence[Row]) -> Draws:
        """posterior, noise: B 4 h w; timesteps: B, uniform over the table."""
        device, shape = self.latent_shape(batch)
        draws = {
            "posterior": normal(rows, "posterior", *shape),
            "noise": normal(rows, "noise", *shape),
            "timesteps": integers(rows, "timesteps", len(self.process)),
        }
        return {name: value.to(device) for name, value in draws.items()}
