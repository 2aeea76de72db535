"""DAPE in training: a LoRA beside the tagger's attention, with the tagger itself as the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..common.draws import Draws, Row
from ..common.start import start_weights
from ..common.state_dict import StateDict
from ..host.extra_blocks import after, beside
from ..host.finetune import Beside, Tuning
from ..host.stochastic_depth import Dropped, branches, draw_kept, regularized, scaled_mask
from ..host.trainable import Published, Trainable, frozen
from ..host.trainable_unet import LAYERS
from .config import RAM, TaggerConfig
from .keys import LORA_RANK, LORA_SCALE, dape_layout, dape_pairs, merge_dape
from .load import DapeModel, build_tagger
from .objective import dape_loss
from .ram import Tagger, tagger_input
from .start import origins


class Adapter(nn.Module):
    """What one projection gains: B A / 8; of a joint one the queries and the values."""

    def __init__(self, down: tuple[int, ...], up: tuple[int, ...]) -> None:
        """The shapes of A and B. The weights are left to `DAPETrainable.start`."""
        super().__init__()
        self.lora_A = nn.Parameter(torch.empty(down))
        self.lora_B = nn.Parameter(torch.empty(up))

    def forward(self, x: Tensor) -> Tensor:
        inner = linear(x, self.lora_A)
        if len(self.lora_A) == LORA_RANK:
            return LORA_SCALE * linear(inner, self.lora_B)
        queries, values = (
            linear(part, weight)
            for part, weight in zip(inner.chunk(2, -1), self.lora_B.chunk(2), strict=True)
        )
        return LORA_SCALE * torch.cat([queries, torch.zeros_like(queries), values], -1)


class DAPETrainable(Trainable):
    """Reads of a batch: `lq`, `hq`. Terms: `embeds`, `labels`.

    As published the student drops branches and values while it imitates a teacher that does not;
    rates of 0 switch that off.
    """

    files: ClassVar[Mapping[str, str]] = {"": "DAPE.safetensors"}
    expected = "a DAPE"

    def __init__(
        self,
        weights: StateDict,
        config: TaggerConfig = RAM,
        depth_rate: float = 0.1,
        hidden_dropout: float = 0.1,
        attention_dropout: float = 0.1,
    ) -> None:
        """weights: the plain tagger's (see `keys.ram_weights`), frozen here and shared by teacher
        and student."""
        super().__init__()
        self.config = config
        self.tagger = Tagger(config, **LAYERS)
        self.tagger.load_state_dict(weights)
        frozen(self.tagger)
        self.layout = dape_layout(self.tagger.state_dict())
        self.sites = [key.removesuffix(".lora_A") for key in self.layout if key.endswith("_A")]
        self.adapters = nn.ModuleList(
            Adapter(self.layout[f"{site}.lora_A"], self.layout[f"{site}.lora_B"])
            for site in self.sites
        )
        blocks = [
            f"visual_encoder.layers.{layer}.blocks.{block}"
            for layer, depth in enumerate(config.depths)
            for block in range(depth)
        ]
        self.paths = branches(blocks, depth_rate)
        self.attention_drops, self.hidden_drops = _dropouts(
            config, attention_dropout, hidden_dropout
        )

    def start(self, seed: int) -> None:
        """The published start, which changes nothing yet."""
        weights = start_weights(self.layout, origins(self.layout), {}, seed)
        self.load_published({self.files[""]: weights})

    def published(self) -> Published:
        adapters = zip(self.sites, self.adapters, strict=True)
        both = {
            f"{site}.{name}": p for site, each in adapters for name, p in each.named_parameters()
        }
        return {"": {key: both[key] for key in self.layout}}

    def draw(self, batch: Mapping[str, Any], rows: Sequence[Row]) -> Draws:
        """Stochastic depth and dropout of the student."""
        dropped = [*self.paths, *self.attention_drops, *self.hidden_drops]
        draws = draw_kept(rows, [each for each in dropped if each.rate])
        return {name: value.to(batch["lq"].device) for name, value in draws.items()}

    def forward(self, batch: Mapping[str, Any], draws: Draws) -> dict[str, Tensor]:
        size = self.config.image_size
        with torch.no_grad():
            wanted = self.tagger.embed(tagger_input(batch["hq"], size))
            wanted_logits = self.tagger.logits(wanted)
        kept = [scaled_mask(each, draws) for each in self.attention_drops if each.name in draws]
        drops = regularized([*self.paths, *self.hidden_drops], draws)
        adapters = dict(zip(self.sites, self.adapters, strict=True))
        with beside(self.tagger, adapters), after(self.tagger, drops):
            embeds = self.tagger.embed(tagger_input(batch["lq"], size))
            logits = self.tagger.logits(embeds, kept)
        return dape_loss(embeds, logits, wanted, wanted_logits)


TITLE = "DAPE"


def tuning(model: DapeModel, beside: Beside) -> Tuning:
    """A loaded tagger whose DAPE learns a little more, or anew where it is plain RAM, beside the plain
    RAM that it has been merged into."""
    weights = {key: value.cpu() for key, value in model.network.state_dict().items()}
    if model.lora is not None:
        weights = merge_dape(weights, dape_pairs(model.lora, weights), -1.0)
    part = DAPETrainable(weights, model.config)
    if model.lora is None:
        part.start(beside.seed)
    else:
        part.load_published({part.files[""]: model.lora})

    def result() -> DapeModel:
        (lora,) = part.published_state().values()
        return build_tagger(weights, model.tags, lora, 1.0, model.config)

    return Tuning(TITLE, part, result, "seesr", weight_decay=0.0)


def _dropouts(
    config: TaggerConfig, attention: float, hidden: float
) -> tuple[list[Dropped], list[Dropped]]:
    """(of the attention's shares, of what attention and feed-forward give) in the decoder."""
    layers = [f"tagging_head.encoder.layer.{i}" for i in range(config.query_layers)]
    side = config.image_size // config.patch_size // 2 ** (len(config.depths) - 1)
    shares = (config.query_heads, config.labels, 1 + side * side)
    outputs = (config.labels, config.query_width)
    return (
        [Dropped(f"{layer}.crossattention.self", attention, shares) for layer in layers],
        [
            Dropped(f"{layer}.{part}output.dense", hidden, outputs)
            for layer in layers
            for part in ("crossattention.", "")
        ],
    )
