"""Tiny PASD networks under their published keys, and the pixel-aware UNet written out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, leaky_relu, silu

from restoration.tests.golden import seeded
from restoration.tests.host.networks import StateDict, unet_model


def sd15(**changes: Any):
    """The structure of SD 1.5 with three levels: the coarsest without text attention."""
    from restoration.pasd.config import PASDConfig

    sizes: dict[str, Any] = {
        "channels": (32, 64, 64),
        "num_res_blocks": 1,
        "depths": (1, 1, 0),
        "middle_depth": 1,
        "context_dim": 16,
        "use_linear": False,
        "num_heads": 8,
        "num_head_channels": -1,
    }
    return PASDConfig(**{**sizes, **changes})


def sdxl():
    """The structure of SDXL: no text attention at the finest level, deep at the coarsest, linear
    projections, heads of one width, a second conditioning."""
    return sd15(
        depths=(0, 1, 2),
        middle_depth=2,
        use_linear=True,
        num_heads=-1,
        num_head_channels=16,
        adm_channels=24,
    )


def base_model(config, seed: int = 0):
    """The UNet that such files belong to."""
    return unet_model(config.unet_config(), seed=seed)


def published_files(
    config, variant: str = "pasd", rrdb: bool = False, heads: bool = True, seed: int = 41
) -> tuple[StateDict, StateDict]:
    """(UNet's file with only the added keys, control network's file), seeded."""
    import comfy.ops
    import comfy.utils

    from restoration.common.hint_encoder import HintEncoder
    from restoration.host.control_encoder import ControlEncoder
    from restoration.pasd.keys import ENCODER_PREFIX, layer_prefix, pixel_layers
    from restoration.pasd.networks import pixel_attention

    layers = {"operations": comfy.ops.manual_cast, "dtype": torch.float32, "device": "meta"}
    # A block in every transformer where the UNet has one; where it has none, one.
    depths = {
        f"{layer_prefix(variant, each)}transformer_blocks.{k}.": torch.empty(0)
        for each in pixel_layers(variant, config)
        for k in range(max(1, each.depth))
    }
    prefixes = {str(each.index): layer_prefix(variant, each) for each in config.decoder}
    unet = {}
    for name, value in pixel_attention(variant, config, depths, **layers).state_dict().items():
        index, _, rest = name.partition(".")
        unet[prefixes[index] + rest] = value

    encoder = HintEncoder(out_channels=config.channels[0], rrdb=rrdb, heads=heads, **layers)
    control = {f"{ENCODER_PREFIX}{k}": value for k, value in encoder.state_dict().items()}
    table = comfy.utils.unet_to_diffusers(config.unet_config())
    # The table has two names for SDXL's second embedding.
    theirs = {ours: name for name, ours in table.items() if not name.startswith("class_")}
    for name, value in ControlEncoder(config.unet_config(), **layers).state_dict().items():
        kind, _, rest = name.partition(".")
        if kind == "zero_convs":
            number, _, end = rest.partition(".0.")
            control[f"controlnet_down_blocks.{number}.{end}"] = value
        elif kind == "middle_block_out":
            control[f"controlnet_mid_block.{rest.partition('.')[2]}"] = value
        else:
            control[theirs[name]] = value

    def drawn(part: StateDict) -> StateDict:
        shapes = {name: tuple(value.shape) for name, value in part.items()}
        return {k: torch.from_numpy(v) for k, v in seeded.state_dict(seed, shapes).items()}

    return drawn(unet), drawn(control)


def networks(config, variant: str = "pasd", **options: Any):
    """What the loader gives for such files."""
    from restoration.pasd.load import pasd_model

    return pasd_model(*published_files(config, variant, **options), config=config)


@dataclass
class Applied:
    """One PASD patch, for `reference`."""

    pasd: Any
    pixels: Tensor
    """Rows 3 H W."""
    strength: float = 1.0
    mask: Tensor | None = None
    """1 1 H W."""
    fidelity: tuple[Tensor, float, float] | None = None
    """(1 1 H W at picture size, foreground, background)."""


def reference(
    model: Any,
    x: Tensor,
    timesteps: Tensor,
    text: Tensor,
    patches: list[Applied],
    y: Tensor | None = None,
    others: list[dict[str, list[Tensor]]] | None = None,
) -> Tensor:
    """The UNet's output with PASD: blocks, attention and feed-forward spelled out.

    x: rows in the variance-preserving scale. others: residuals of other ControlNets.
    """
    with torch.no_grad():
        return _reference(model, x, timesteps, text, patches, y, others or [])


def _reference(model, x, timesteps, text, patches, y, others) -> Tensor:
    unet = model.model.diffusion_model
    contexts, middles, skips = [], [], []
    for patch in patches:
        residuals, middle = _control(patch, x, timesteps, text, y)
        contexts.append(residuals)
        skips.append([_area(r, patch.mask) for r in residuals])
        middles.append(_area(middle, patch.mask))
    for other in others:
        skips.append(other["output"])
        middles.append(other["middle"][0])

    emb = _embedding(unet, timesteps, y, x)
    h, stack = x, []
    for block in unet.input_blocks:
        h = _layers(block, h, emb, text)
        stack.append(h)
    h = _layers(unet.middle_block, h, emb, text) + sum(middles)
    for n, block in enumerate(unet.output_blocks):
        skip = stack.pop() + sum(each[-1 - n] for each in skips)
        h = torch.cat([h, skip], 1)
        body = [layer for layer in block if type(layer).__name__ != "Upsample"]
        for layer in body:
            extra = None
            if type(layer).__name__ == "SpatialTransformer":
                extra = [
                    _light(patch, n, each[-1 - n])
                    for patch, each in zip(patches, contexts, strict=True)
                    if patch.pasd.variant == "pasd_light"
                ]
            h = _layer(layer, h, emb, text, extra)
        for patch, each in zip(patches, contexts, strict=True):
            if patch.pasd.variant == "pasd":
                transformer = patch.pasd.attention.model[str(n)]
                added = _transformer(transformer, h, _tokens(each[-1 - n]))
                if patch.mask is not None:
                    weight = interpolate(patch.mask, h.shape[-2:], mode="area")
                    added = (1 - weight) * h + weight * added
                h = added
        if len(body) < len(block):
            h = block[-1](h, output_shape=stack[-1].shape)
    return unet.out(h)


def _control(patch: Applied, x, timesteps, text, y) -> tuple[list[Tensor], Tensor]:
    """Residuals and the middle one, scaled."""
    control, hints = patch.pasd.control.model, encoded(patch.pasd.encoder.model, patch.pixels)
    emb = _embedding(control, timesteps, y, x)
    h, residuals = x, []
    for number, block in enumerate(control.input_blocks):
        h = _layers(block, h, emb, text)
        if number == 0:
            h = h + hints
        residuals.append(_scaled(control.zero_convs[number][0](h), patch))
    middle = _layers(control.middle_block, h, emb, text)
    return residuals, _scaled(control.middle_block_out[0](middle), patch)


def encoded(encoder: Any, pixels: Tensor) -> Tensor:
    """The image encoder written out."""
    h = silu(encoder.conv_in(pixels))
    for rrdb in getattr(encoder.preprocesser, "children", list)():
        outer = h
        for dense in rrdb.children():
            seen = [h]
            for conv in list(dense.children())[:4]:
                seen.append(leaky_relu(conv(torch.cat(seen, 1)), 0.2))
            h = h + 0.2 * dense.conv5(torch.cat(seen, 1))
        h = outer + 0.2 * h
    for conv in encoder.blocks:
        h = silu(conv(h))
    return encoder.conv_out(h)


def _scaled(residual: Tensor, patch: Applied) -> Tensor:
    residual = residual * patch.strength
    if patch.fidelity is None:
        return residual
    mask, inside, outside = patch.fidelity
    height, width = residual.shape[-2:]
    rows = [i * mask.shape[-2] // height for i in range(height)]
    columns = [i * mask.shape[-1] // width for i in range(width)]
    sampled = mask[..., rows, :][..., columns]
    return residual * torch.where(sampled > 0, inside, outside)


def _area(residual: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return residual
    return residual * interpolate(mask, residual.shape[-2:], mode="area")


def _embedding(network, timesteps: Tensor, y: Tensor | None, x: Tensor) -> Tensor:
    half = network.model_channels // 2
    frequencies = torch.exp(-torch.arange(half) * torch.tensor(10000.0).log() / half)
    angles = timesteps.float()[:, None] * frequencies
    emb = network.time_embed(torch.cat([angles.cos(), angles.sin()], 1))
    return emb if y is None else emb + network.label_emb(y)


def _layers(block, h: Tensor, emb: Tensor, text: Tensor) -> Tensor:
    for layer in block:
        h = _layer(layer, h, emb, text)
    return h


def _layer(layer, h: Tensor, emb: Tensor, text: Tensor, extra: Any = None) -> Tensor:
    kind = type(layer).__name__
    if kind == "ResBlock":
        return layer(h, emb)
    if kind == "SpatialTransformer":
        return _transformer(layer, h, text, extra)
    return layer(h)


def _tokens(features: Tensor) -> Tensor:
    return features.permute(0, 2, 3, 1).reshape(features.shape[0], -1, features.shape[1])


def _attention(attn, query: Tensor, context: Tensor) -> Tensor:
    def heads(value: Tensor) -> Tensor:
        return value.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    q, k, v = heads(attn.to_q(query)), heads(attn.to_k(context)), heads(attn.to_v(context))
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return attn.to_out((weights @ v).transpose(1, 2).flatten(2))


def _transformer(transformer, h: Tensor, context: Tensor, extra: Any = None) -> Tensor:
    """extra: (block, stream) -> what is added between text attention and feed-forward."""
    linear = isinstance(transformer.proj_in, nn.Linear)
    x = transformer.norm(h)
    x = transformer.proj_in(_tokens(x)) if linear else _tokens(transformer.proj_in(x))
    for number, block in enumerate(transformer.transformer_blocks):
        n = block.norm1(x)
        x = x + _attention(block.attn1, n, n)
        x = x + _attention(block.attn2, block.norm2(x), context)
        for add in extra or []:
            x = x + add(number, x)
        inner, gate = block.ff.net[0].proj(block.norm3(x)).chunk(2, -1)
        x = x + block.ff.net[2](inner * gelu(gate))

    def picture(value: Tensor) -> Tensor:
        return value.reshape(h.shape[0], *h.shape[-2:], -1).permute(0, 3, 1, 2)

    out = picture(transformer.proj_out(x)) if linear else transformer.proj_out(picture(x))
    return h + out


def _light(patch: Applied, n: int, residual: Tensor):
    """`pasd_light`'s addition in one text transformer."""
    added = patch.pasd.attention.model[str(n)]
    linear = isinstance(added.proj_in_plus, nn.Linear)
    context = (
        added.proj_in_plus(_tokens(residual)) if linear else _tokens(added.proj_in_plus(residual))
    )
    weight = 1.0
    if patch.mask is not None:
        weight = _tokens(interpolate(patch.mask, residual.shape[-2:], mode="area"))

    def add(number: int, x: Tensor) -> Tensor:
        block = added.transformer_blocks[number]
        return weight * _attention(block.attn2_plus, block.norm2_plus(x), context)

    return add
