"""DiffBIR's stage 1 in training: SwinIR from damaged to clean pictures, all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from ..common.draws import Draws, Row
from ..common.state_dict import StateDict
from ..host.extra_blocks import after
from ..host.stochastic_depth import branches, draw_kept, regularized
from ..host.trainable import Published, Trainable
from .objective import cleaning_loss
from .start import SwinIRSizes, new_swinir


class CleanerTrainable(Trainable):
    """Reads of a batch: `lq`, `hq`. Term: `squares`, a sum over everything."""

    files: ClassVar[Mapping[str, str]] = {"": "swinir.safetensors"}
    expected = "DiffBIR's SwinIR"

    def __init__(self, sizes: SwinIRSizes | None = None, seed: int = 0) -> None:
        """A fresh one, with the published start."""
        super().__init__()
        sizes = sizes or SwinIRSizes()
        self.network: nn.Module = new_swinir(sizes, seed).eval()
        blocks = [
            f"layers.{layer}.residual_group.blocks.{block}"
            for layer, depth in enumerate(sizes.depths)
            for block in range(depth)
        ]
        self.dropped = branches(blocks, sizes.drop_path_rate)
        self.unshuffles = sizes.start_unshuffle > 1

    def _key(self, name: str) -> str:
        """The published name: the first convolution stands behind the unshuffling there."""
        first = "conv_first."
        if self.unshuffles and name.startswith(first):
            return f"{first}1.{name.removeprefix(first)}"
        return name

    def published(self) -> Published:
        return {"": {self._key(name): p for name, p in self.network.named_parameters()}}

    def computed(self) -> StateDict:
        """The tables of windows, by which loaders tell the sizes."""
        return {
            name: value
            for name, value in self.network.named_buffers()
            if name.endswith(("relative_position_index", "attn_mask"))
        }

    def draw(self, batch: Mapping[str, Any], rows: Sequence[Row]) -> Draws:
        """Stochastic depth: which samples keep which branch."""
        draws = draw_kept(rows, self.dropped)
        return {name: value.to(batch["lq"].device) for name, value in draws.items()}

    def forward(self, batch: Mapping[str, Any], draws: Draws) -> dict[str, Tensor]:
        with after(self.network, regularized(self.dropped, draws)):
            found = self.network(batch["lq"])
        # Through -1..1 and back in float32, as the published code takes it.
        wanted = (batch["hq"] * 2 - 1 + 1) / 2
        return cleaning_loss(found, wanted)
