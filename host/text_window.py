"""A text encoder as Stable Diffusion is trained with it: one window of tokens, plain words.

The host's CLIP objects split long prompts into several windows and weigh words, which training
must not do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .trainable_unet import exact_attention

Tokenize = Callable[[str], list[int]]
"""Words -> tokens of one whole window, padded."""


class TextWindow(nn.Module):
    """Captions -> features, B N D."""

    def __init__(
        self,
        encoder: Any,
        tokenize: Tokenize | None = None,
        layer: int | None = None,
        normalized: bool = True,
    ) -> None:
        """encoder: the host's CLIP transformer (`text_model`). layer: whose hidden state is taken,
        counted from the end (Stable Diffusion 2: -2); None the last. normalized: whether the final
        norm is applied to it."""
        super().__init__()
        self.encoder, self.tokenize = encoder, tokenize
        self.layer, self.normalized = layer, normalized

    @classmethod
    def of_clip(cls, clip: Any) -> TextWindow:
        """From the host's CLIP object of a Stable Diffusion 1 or 2 checkpoint, which shares its
        weights. Raises ValueError for others."""
        model = clip.cond_stage_model
        name = getattr(model, "clip_name", None)
        stage = getattr(model, getattr(model, "clip", ""), None)
        tokenizer = getattr(clip.tokenizer, getattr(clip.tokenizer, "clip", ""), None)
        if name not in ("l", "h") or stage is None or tokenizer is None:
            raise ValueError(
                f"The text encoder is a {type(model).__name__}; training knows those of Stable "
                "Diffusion 1 and 2. Take a checkpoint of one of these."
            )
        hidden = stage.layer == "hidden"
        return cls(
            stage.transformer.text_model,
            lambda words: one_window(tokenizer, words),
            stage.layer_idx if hidden else None,
            stage.layer_norm_hidden_state if hidden else True,
        )

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """B 77, on the encoder's device."""
        if self.tokenize is None:
            raise ValueError("The text encoder has no tokenizer: the batch must bring tokens.")
        device = next(self.encoder.parameters()).device
        return torch.tensor([self.tokenize(words) for words in captions], device=device)

    def features(self, tokens: Tensor) -> Tensor:
        """tokens: B N. Returns B N D, with gradients if the encoder trains: the host's own forward
        pass adds in place, which has none."""
        x = self.encoder.embeddings(tokens, dtype=torch.float32)
        length = x.shape[1]
        later = torch.full((length, length), -torch.finfo(x.dtype).max, device=x.device).triu(1)

        def attention(*arguments: Any) -> Tensor:
            return exact_attention(None, *arguments)

        for layer in self._layers():
            x = x + layer.self_attn(layer.layer_norm1(x), later, attention)
            x = x + layer.mlp(layer.layer_norm2(x))
        return self.encoder.final_layer_norm(x) if self.normalized else x

    def _layers(self) -> Any:
        """Those up to the hidden state that is taken."""
        layers = self.encoder.encoder.layers
        return layers if self.layer is None else layers[: len(layers) + 1 + self.layer]

    def used(self) -> dict[str, nn.Parameter]:
        """What the features depend on, by the host's names, which are those of published files."""
        count, used = len(self.encoder.encoder.layers), len(self._layers())
        idle = [f"encoder.layers.{i}." for i in range(used, count)]
        if not self.normalized:
            idle.append("final_layer_norm.")
        parameters = self.encoder.named_parameters()
        return {name: p for name, p in parameters if not name.startswith(tuple(idle))}

    def forward(self, captions: Sequence[str]) -> Tensor:
        return self.features(self.tokens(captions))


def one_window(tokenizer: Any, words: str) -> list[int]:
    """The tokens of the host's tokenizer (an `SDTokenizer`): start mark, words as far as they fit,
    end mark, padding as the base's own."""
    length, end = tokenizer.max_length, tokenizer.end_token
    inner = [*tokenizer.tokenizer(words)["input_ids"]]
    inner = [token for token in inner if token not in (tokenizer.start_token, end)][: length - 2]
    tokens = [tokenizer.start_token, *inner, end]
    pad = end if tokenizer.pad_with_end else 0
    return tokens + [pad] * (length - len(tokens))
