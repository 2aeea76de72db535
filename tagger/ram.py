"""SeeSR's tagger: RAM (Huang et al. 2023) with a Swin backbone (Liu et al. 2021) and a decoder
that asks for every label by itself (Query2Label, Liu et al. 2021).

The names of all weights are those of the published file. Only what tagging runs is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, relu, scaled_dot_product_attention

from .config import EMBED_WIDTH, IMAGE_MEAN, IMAGE_STD, RAM, TaggerConfig

HIDDEN = -100.0
"""Added to the attention between parts of the picture that only the shift made neighbors."""


def tagger_input(pixels: Tensor, size: int = RAM.image_size, antialias: bool = False) -> Tensor:
    """What the tagger sees of a picture: squeezed to a square, normalized as ImageNet.

    pixels: B 3 H W in 0..1, the low-quality picture before any enlargement. antialias: off as
    with the torchvision of the authors. Returns B 3 size size.
    """
    square = interpolate(pixels, (size, size), mode="bilinear", antialias=antialias)
    mean, std = (square.new_tensor(values)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))
    return (square - mean) / std


def relative_positions(window: int, device: torch.device | None = None) -> Tensor:
    """Row of the bias table for every pair of tokens of a window, N x N, N = window^2."""
    side = torch.arange(window, device=device)
    y, x = torch.cartesian_prod(side, side).T
    dy, dx = y[:, None] - y, x[:, None] - x
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


def shift_mask(height: int, width: int, window: int, like: Tensor) -> Tensor:
    """Bias of shifted windows, (number of windows) N N: 0, or `HIDDEN` where two tokens came
    together across the border of the picture."""

    def bands(length: int) -> Tensor:
        band = like.new_zeros(length)
        band[-window:] = 1
        band[-(window // 2) :] = 2
        return band

    regions = 3 * bands(height)[:, None] + bands(width)
    tokens = rearrange(regions, "(y wy) (x wx) -> (y x) (wy wx)", wy=window, wx=window)
    return HIDDEN * (tokens[:, :, None] != tokens[:, None, :]).to(like)


class WindowAttention(nn.Module):
    """Self attention in windows, with a learned bias for every relative position."""

    def __init__(
        self, width: int, heads: int, window: int, operations: Any, **factory: Any
    ) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        table = torch.empty((2 * window - 1) ** 2, heads, **factory)
        self.relative_position_bias_table = nn.Parameter(table)
        self.qkv = operations.Linear(width, 3 * width, **factory)
        self.proj = operations.Linear(width, width, **factory)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """windows: (B windows) N C, those of one picture together. mask: windows N N."""
        qkv = rearrange(
            self.qkv(windows), "b n (three h d) -> three b h n d", three=3, h=self.heads
        )
        # Not a layer of the host, so it may lie elsewhere than the input.
        table = self.relative_position_bias_table.to(windows)
        bias = table[relative_positions(self.window, windows.device)].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(len(windows) // len(mask), 1, 1, 1)
        out = scaled_dot_product_attention(*qkv.unbind(), attn_mask=bias)
        return self.proj(rearrange(out, "b h n d -> b n (h d)"))


class Mlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.fc1 = operations.Linear(width, 4 * width, **factory)
        self.fc2 = operations.Linear(4 * width, width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Attention in windows, which every second block shifts by half a window, then an MLP."""

    def __init__(
        self, width: int, heads: int, window: int, shift: int, operations: Any, **factory: Any
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = operations.LayerNorm(width, **factory)
        self.attn = WindowAttention(width, heads, window, operations, **factory)
        self.norm2 = operations.LayerNorm(width, **factory)
        self.mlp = Mlp(width, operations, **factory)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: B H W C. mask: of shifted windows; None where the picture is one window, which is
        never shifted."""
        shift = 0 if mask is None else self.shift
        h = self.norm1(x).roll((-shift, -shift), (1, 2))
        grid = {"y": x.shape[1] // self.window, "wy": self.window, "wx": self.window}
        windows = rearrange(h, "b (y wy) (x wx) c -> (b y x) (wy wx) c", **grid)
        windows = self.attn(windows, mask if shift else None)
        h = rearrange(windows, "(b y x) (wy wx) c -> b (y wy) (x wx) c", b=len(x), **grid)
        x = x + h.roll((shift, shift), (1, 2))
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """Four neighbors become one token of twice the channels."""

    def __init__(self, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.reduction = operations.Linear(4 * width, 2 * width, bias=False, **factory)
        self.norm = operations.LayerNorm(4 * width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(self.norm(rearrange(x, "b (h y) (w x) c -> b h w (x y c)", y=2, x=2)))


class SwinStage(nn.Module):
    """The blocks of one resolution, and the step down to the next."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        window: int,
        last: bool,
        operations: Any,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, window, i % 2 * (window // 2), operations, **factory)
            for i in range(depth)
        )
        if not last:
            self.downsample = PatchMerging(width, operations, **factory)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """x: B H W C."""
        height, width = x.shape[1:3]
        mask = None
        if min(height, width) > self.window:
            mask = shift_mask(height, width, self.window, x)
        for block in self.blocks:
            x = block(x, mask)
        return x if self.last else self.downsample(x)


class PatchEmbedding(nn.Module):
    """Every patch of the picture becomes a token."""

    def __init__(self, patch: int, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.proj = operations.Conv2d(3, width, patch, stride=patch, **factory)
        self.norm = operations.LayerNorm(width, **factory)

    def forward(self, image: Tensor) -> Tensor:
        """B 3 H W -> B h w C."""
        return self.norm(self.proj(image).movedim(1, -1))


class SwinBackbone(nn.Module):
    """Swin transformer without a classifier."""

    def __init__(self, config: TaggerConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        width, last = config.embed_dim, len(config.depths) - 1
        self.patch_embed = PatchEmbedding(config.patch_size, width, operations, **factory)
        self.layers = nn.ModuleList(
            SwinStage(width * 2**i, depth, heads, config.window, i == last, operations, **factory)
            for i, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True))
        )
        self.norm = operations.LayerNorm(config.backbone_width, **factory)

    def forward(self, image: Tensor) -> Tensor:
        """image: B 3 H W, normalized. Returns B (1 + tokens) C: their mean, then the tokens, row
        by row."""
        x = self.patch_embed(image)
        for stage in self.layers:
            x = stage(x)
        tokens = self.norm(x).flatten(1, 2)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


class ResidualNorm(nn.Module):
    """norm(dense(h) + x), as in BERT."""

    def __init__(self, inputs: int, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.dense = operations.Linear(inputs, width, **factory)
        self.LayerNorm = operations.LayerNorm(width, eps=1e-12, **factory)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(h) + x)


class CrossAttention(nn.Module):
    """What the queries find in the picture. They do not see one another."""

    def __init__(self, config: TaggerConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.heads, width = config.query_heads, config.query_width
        inputs = {"query": width, "key": EMBED_WIDTH, "value": EMBED_WIDTH}
        # The name in the file.
        self.self = nn.ModuleDict(
            {name: operations.Linear(size, width, **factory) for name, size in inputs.items()}
        )
        self.output = ResidualNorm(width, width, operations, **factory)

    def forward(self, queries: Tensor, embeds: Tensor, kept: Tensor | None = None) -> Tensor:
        """kept: B heads queries N, multiplied onto the attention: dropout, in training."""
        inputs = {"query": queries, "key": embeds, "value": embeds}
        q, k, v = (
            rearrange(self.self[name](x), "b n (h d) -> b h n d", h=self.heads)
            for name, x in inputs.items()
        )
        if kept is None:
            seen = scaled_dot_product_attention(q, k, v)
        else:
            attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
            seen = (attention * kept) @ v
        return self.output(rearrange(seen, "b h n d -> b n (h d)"), queries)


class QueryLayer(nn.Module):
    """Cross attention of the queries to the picture, then an MLP."""

    def __init__(self, config: TaggerConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        width, hidden = config.query_width, config.query_feed_forward
        self.crossattention = CrossAttention(config, operations, **factory)
        self.intermediate = nn.ModuleDict({"dense": operations.Linear(width, hidden, **factory)})
        self.output = ResidualNorm(hidden, width, operations, **factory)

    def forward(self, queries: Tensor, embeds: Tensor, kept: Tensor | None = None) -> Tensor:
        """queries: B labels C. embeds: B N 512. kept: see `CrossAttention`."""
        h = self.crossattention(queries, embeds, kept)
        return self.output(gelu(self.intermediate["dense"](h)), h)


class Tagger(nn.Module):
    """RAM as far as tagging goes. With DAPE's LoRA merged into the weights, it is DAPE."""

    def __init__(self, config: TaggerConfig = RAM, operations: Any = nn, **factory: Any) -> None:
        """operations: torch.nn or the host's layers of the same names. factory: dtype, device."""
        super().__init__()
        self.visual_encoder = SwinBackbone(config, operations, **factory)
        self.image_proj = operations.Linear(config.backbone_width, EMBED_WIDTH, **factory)
        self.label_embed = nn.Parameter(torch.empty(config.labels, EMBED_WIDTH, **factory))
        self.wordvec_proj = operations.Linear(EMBED_WIDTH, config.query_width, **factory)
        layers = [QueryLayer(config, operations, **factory) for _ in range(config.query_layers)]
        self.tagging_head = nn.ModuleDict(
            {"encoder": nn.ModuleDict({"layer": nn.ModuleList(layers)})}
        )
        self.fc = operations.Linear(config.query_width, 1, **factory)

    def embed(self, image: Tensor) -> Tensor:
        """image: as `tagger_input` gives it. Returns B N 512, the embeddings of the picture."""
        return self.image_proj(self.visual_encoder(image))

    def logits(self, embeds: Tensor, kept: Sequence[Tensor] = ()) -> Tensor:
        """embeds: B N 512. kept: in training, one mask a layer (see `CrossAttention`). Returns
        B labels; the sigmoid of each is its probability."""
        queries = relu(self.wordvec_proj(self.label_embed.to(embeds)))
        h = queries.expand(len(embeds), -1, -1)
        layers = self.get_submodule("tagging_head.encoder.layer").children()
        for layer, mask in zip_longest(layers, kept):
            h = layer(h, embeds, mask)
        return self.fc(h).squeeze(-1)
