"""Tiny SeeSR networks under their published keys, and the UNet with RCA written out by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, group_norm, interpolate, layer_norm, silu

from restoration.tests.golden import seeded
from restoration.tests.host.networks import StateDict, unet_model

TOKENS, EMBED, TEXT = 5, 512, 16


def config():
    """The structure of Stable Diffusion 2 with three levels: the coarsest without transformers."""
    from restoration.seesr.config import SeeSRConfig

    return SeeSRConfig(
        channels=(32, 64, 64),
        num_res_blocks=1,
        transformers=(True, True, False),
        context_dim=TEXT,
        num_head_channels=16,
    )


def base_model(seed: int = 0):
    """The UNet that the files belong to."""
    return unet_model(config().unet_config(), seed=seed)


def drawn(weights: StateDict, seed: int) -> StateDict:
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    return {k: torch.from_numpy(v) for k, v in seeded.state_dict(seed, shapes).items()}


def published_files(seed: int = 51) -> tuple[StateDict, StateDict]:
    """(UNet's file: the weights of `base_model()` and the RCAs, control network's file)."""
    import comfy.ops
    import comfy.utils

    from restoration.common.hint_encoder import HintEncoder
    from restoration.host.control_encoder import ControlEncoder
    from restoration.seesr.keys import ENCODER_PREFIX
    from restoration.seesr.networks import rca_layers

    sizes = config()
    layers = {"operations": comfy.ops.manual_cast, "dtype": torch.float32, "device": "meta"}
    table = comfy.utils.unet_to_diffusers(sizes.unet_config())

    def rca(sites: Any) -> StateDict:
        return {
            sites[int(name.partition(".")[0])].name + name.partition(".")[2]: value
            for name, value in rca_layers(sites, sizes, **layers).state_dict().items()
        }

    ours = base_model().model.diffusion_model.state_dict()
    plain = {theirs: ours[name] for theirs, name in table.items() if name in ours}
    unet = plain | drawn(rca(sizes.unet_sites), seed)

    encoder = HintEncoder(out_channels=sizes.channels[0], **layers)
    control = {f"{ENCODER_PREFIX}{k}": value for k, value in encoder.state_dict().items()}
    control |= rca(sizes.encoder_sites)
    names = {ours: theirs for theirs, ours in table.items()}
    for name, value in ControlEncoder(sizes.unet_config(), **layers).state_dict().items():
        kind, _, rest = name.partition(".")
        if kind == "zero_convs":
            number, _, end = rest.partition(".0.")
            control[f"controlnet_down_blocks.{number}.{end}"] = value
        elif kind == "middle_block_out":
            control[f"controlnet_mid_block.{rest.partition('.')[2]}"] = value
        else:
            control[names[name]] = value
    return unet, drawn(control, seed)


def networks(seed: int = 51):
    """What the loader gives for such files."""
    from restoration.seesr.load import seesr_model

    return seesr_model(*published_files(seed), config=config())[0]


def tag_embeds(rows: int = 1, name: str = "embeds"):
    """TAG_EMBEDS of so many pictures."""
    from restoration.tagger.run import TagEmbeds
    from restoration.tests.host.networks import seeded_input

    return TagEmbeds(seeded_input(4, name, rows, TOKENS, EMBED))


def tagger_config(labels: int = 12):
    """RAM in small: pictures of 24 pixels, one stage that shifts and one that does not."""
    from restoration.tagger.config import TaggerConfig

    return TaggerConfig(
        image_size=24,
        embed_dim=8,
        depths=(2, 2),
        heads=(2, 4),
        window=3,
        labels=labels,
        query_width=16,
        query_heads=2,
        query_feed_forward=32,
    )


def ram_weights(labels: int = 12, seed: int = 61) -> StateDict:
    """A tagger's weights, by the keys of the published file."""
    from restoration.tagger.ram import Tagger

    return drawn(dict(Tagger(tagger_config(labels), device="meta").state_dict()), seed)


def dape_weights(weights: StateDict, seed: int = 62) -> StateDict:
    """A LoRA for them, as published: rank 8; queries and values of the backbone, queries and keys
    of the decoder."""
    shapes = {}
    for key, value in weights.items():
        base = key.removesuffix("weight")
        if key.endswith(".qkv.weight"):
            shapes[f"{base}lora_A"] = (16, value.shape[1])
            shapes[f"{base}lora_B"] = (value.shape[0] // 3 * 2, 8)
        elif key.endswith(("self.query.weight", "self.key.weight")):
            shapes[f"{base}lora_A"] = (8, value.shape[1])
            shapes[f"{base}lora_B"] = (value.shape[0], 8)
    return {k: torch.from_numpy(v) for k, v in seeded.state_dict(seed, shapes).items()}


def tag_list(labels: int = 12):
    """The first half of the tags is seen in every picture, the others in bright ones only."""
    from restoration.tagger.tags import TagList

    thresholds = torch.where(torch.arange(labels) < labels // 2, 0.2, 0.5)
    return TagList(tuple(f"tag {i}" for i in range(labels)), thresholds)


def tiny_tagger(lora: StateDict | None = None, strength: float = 1.0):
    """DAPE_MODEL."""
    from restoration.tagger.load import build_tagger

    return build_tagger({"model": ram_weights()}, tag_list(), lora, strength, tagger_config())


def reference(
    model: Any,
    seesr: Any,
    x: Tensor,
    timesteps: Tensor,
    text: Tensor,
    pixels: Tensor,
    embeds: Tensor,
    strength: float = 1.0,
    mask: Tensor | None = None,
    others: list[dict[str, list[Tensor]]] | None = None,
) -> Tensor:
    """The UNet's output with SeeSR, every added operation spelled out.

    x: rows in the variance-preserving scale. pixels: rows 3 H W. embeds: rows N 512. mask: 1 1 h w.
    others: residuals of other ControlNets, added to the skips.
    """
    with torch.no_grad():
        rca, control = seesr.rca.model, seesr.control.model
        sites = {site.layer: i for i, site in enumerate(seesr.config.unet_sites)}
        residuals, middle = _control(control, x, timesteps, text, pixels, embeds)
        unet = model.model.diffusion_model
        emb = _embedding(unet, timesteps)

        def ours(residual: Tensor) -> Tensor:
            residual = strength * residual
            return residual if mask is None else residual * _area(mask, residual)

        def block(name: str, h: Tensor, shape: Any = None) -> Tensor:
            layers = list(unet.get_submodule(name))
            for number, layer in enumerate(layers):
                kind = type(layer).__name__
                if kind == "ResBlock":
                    h = layer(h, emb)
                elif kind == "SpatialTransformer":
                    h = layer(h, text)
                    site = f"{name}.{number}" if name == "middle_block" else name
                    added = transformer(rca[sites[site]], h, embeds)
                    weight = 1.0 if mask is None else _area(mask, h)
                    h = weight * added + (1 - weight) * h
                elif kind == "Upsample":
                    h = layer(h, output_shape=shape)
                else:
                    h = layer(h)
            return h

        h, skips = x, []
        for number in range(len(unet.input_blocks)):
            h = block(f"input_blocks.{number}", h)
            skips.append(h)
        h = block("middle_block", h) + ours(middle) + sum(o["middle"][0] for o in others or [])
        for number in range(len(unet.output_blocks)):
            skip = skips.pop() + ours(residuals.pop())
            skip = skip + sum(o["output"][-1 - number] for o in others or [])
            shape = skips[-1].shape if skips else None
            h = block(f"output_blocks.{number}", torch.cat([h, skip], 1), shape)
        return unet.out(h)


def _area(mask: Tensor, like: Tensor) -> Tensor:
    return interpolate(mask, like.shape[-2:], mode="area")


def _control(
    control: Any, x: Tensor, timesteps: Tensor, text: Tensor, pixels: Tensor, embeds: Tensor
) -> tuple[list[Tensor], Tensor]:
    encoder, hint = control.encoder, control.hint
    h = silu(hint.conv_in(pixels))
    for conv in hint.blocks:
        h = silu(conv(h))
    features = hint.conv_out(h)
    emb = _embedding(encoder, timesteps)
    places = {site.layer: i for i, site in enumerate(control.sites)}

    def block(name: str, layers: Any, h: Tensor) -> Tensor:
        for number, layer in enumerate(layers):
            kind = type(layer).__name__
            if kind == "ResBlock":
                h = layer(h, emb)
            elif kind == "SpatialTransformer":
                h = layer(h, text)
                site = f"{name}.{number}" if name == "middle_block" else name
                h = transformer(control.rca[places[site]], h, embeds)
            else:
                h = layer(h)
        return h

    h, residuals = x, []
    for number, layers in enumerate(encoder.input_blocks):
        h = block(f"input_blocks.{number}", layers, h)
        if number == 0:
            h = h + features
        residuals.append(encoder.zero_convs[number][0](h))
    h = block("middle_block", encoder.middle_block, h)
    return residuals, encoder.middle_block_out[0](h)


def _embedding(network: Any, timesteps: Tensor) -> Tensor:
    half = network.model_channels // 2
    frequencies = torch.exp(-torch.arange(half) * torch.tensor(10000.0).log() / half)
    angles = timesteps.float()[:, None] * frequencies
    return network.time_embed(torch.cat([angles.cos(), angles.sin()], 1))


def transformer(site: nn.Module, h: Tensor, embeds: Tensor) -> Tensor:
    """One RCA from its published weights alone (spec 2.1): group norm, projection, self attention
    over pixels, attention to the embeddings, gated feed-forward, projection, plus the input."""
    w = site.state_dict()
    batch, channels, height, width = h.shape
    heads = channels // 16

    def linear(value: Tensor, name: str) -> Tensor:
        out = value @ w[f"{name}.weight"].T
        return out + w[f"{name}.bias"] if f"{name}.bias" in w else out

    def norm(value: Tensor, name: str) -> Tensor:
        return layer_norm(value, (channels,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    def attention(query: Tensor, context: Tensor, name: str) -> Tensor:
        q, k, v = (
            linear(value, f"{name}.{part}").unflatten(-1, (heads, -1)).transpose(1, 2)
            for part, value in (("to_q", query), ("to_k", context), ("to_v", context))
        )
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return linear((weights @ v).transpose(1, 2).flatten(2), f"{name}.to_out.0")

    t = "transformer_blocks.0"
    x = group_norm(h, 32, w["norm.weight"], w["norm.bias"], 1e-6)
    x = linear(x.permute(0, 2, 3, 1).reshape(batch, -1, channels), "proj_in")
    n = norm(x, f"{t}.norm1")
    x = x + attention(n, n, f"{t}.attn1")
    x = x + attention(norm(x, f"{t}.norm2"), embeds, f"{t}.attn2")
    value, gate = linear(norm(x, f"{t}.norm3"), f"{t}.ff.net.0.proj").chunk(2, -1)
    x = x + linear(value * gelu(gate), f"{t}.ff.net.2")
    x = linear(x, "proj_out").reshape(batch, height, width, channels)
    return h + x.permute(0, 3, 1, 2)
