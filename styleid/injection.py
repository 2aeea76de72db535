"""What StyleID changes while denoising: the start latent's statistics, and the self-attentions of
the decoder (Chung et al. 2024, eq. 4 to 9)."""

from __future__ import annotations

import torch
from torch import Tensor

from .inversion import Convention

DECODER_BLOCKS = 12
"""The decoder blocks of Stable Diffusion 1.x and 2.x. Blocks 0 to 2 have no attention."""

LAYERS = (6, 7, 8, 9, 10, 11)
"""The paper's choice: the decoder's last six self-attentions."""

ADAIN_EPS = 1e-4


def parse_layers(text: str) -> tuple[int, ...]:
    """Decoder blocks from "6,7,8", ascending, each once; () from an empty text."""
    words = text.replace(",", " ").split()
    if not all(word.isdecimal() and 0 <= int(word) < DECODER_BLOCKS for word in words):
        raise ValueError(
            f"`layers` is {text!r}; expected decoder blocks from 3 to {DECODER_BLOCKS - 1}, "
            f"separated by commas, such as {','.join(map(str, LAYERS))}."
        )
    return tuple(sorted({int(word) for word in words}))


def adain_eps(convention: Convention) -> float:
    """What the authors' two programs add to the content's standard deviation."""
    return 0.0 if convention == "ldm" else ADAIN_EPS


def adain(content: Tensor, style: Tensor, eps: float = ADAIN_EPS) -> Tensor:
    """Content with the per-channel mean and standard deviation of style, for every row alone.

    content, style: B C h w at the same noise level; sizes may differ. Sample standard deviation,
    eps is added to that of the content (to the deviation, where the color fixes add it to the
    variance). The ldm code takes statistics over the whole batch; rows here do not mix.
    """

    def statistics(latent: Tensor) -> tuple[Tensor, Tensor]:
        unbiased = int(latent.shape[-2] * latent.shape[-1] > 1)  # one cell deviates by 0, not NaN
        std, mean = torch.std_mean(latent, dim=(-2, -1), correction=unbiased, keepdim=True)
        return std, mean

    (content_std, content_mean), (style_std, style_mean) = statistics(content), statistics(style)
    return (content - content_mean) / (content_std + eps) * style_std + style_mean


def blend_query(query: Tensor, content: Tensor, gamma: float, temperature: float) -> Tensor:
    """T (gamma content + (1 - gamma) query), B N C.

    The same before or after the projection to queries, which is linear and has no bias; and the
    factor T on the query is the factor T on the attention's logits.
    """
    return temperature * torch.lerp(query, content, gamma)
