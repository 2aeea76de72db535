"""What the loop asks of a trained part: one module that knows its loss, its draws and its files.

Every `<method>/trainable.py` has a class of this form. It holds its frozen networks too, so that
one call computes the loss, one `accumulate` covers all that trains, and data parallelism averages
every gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from ..common.draws import Draws, Row
from ..common.state_dict import StateDict

Batch = Mapping[str, Any]
"""The samples of one step, by name; every part says in its docstring which it reads:

hq, lq      B 3 H W in 0..1, of one size: the target, and its damaged form back at that size
captions    a list of B strings
text        B N D, in the place of `captions`: features of one window of the text encoder
mean, logvar    B 4 h w, in the place of `hq` where only its latent is wanted: the VAE's posterior,
            not scaled
embeds      B N 512, in the place of the tagger's look at `lq` (SeeSR)
condition   B 4 h w, in the place of stage 1 and the VAE's look at `lq`, scaled (DiffBIR)
"""


class Part(Protocol):
    """A network in training. An `nn.Module`; what does not train is in eval mode, has
    `requires_grad` off and never reaches `trained`."""

    def __call__(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The terms of the loss, scalars in float32; the loss is their sum. Pure: the same batch
        and draws give the same terms."""
        ...

    def draw(self, batch: Batch, rows: Sequence[Row]) -> Draws:
        """All random numbers of one step, by name, row by row, on the batch's device. A row's
        numbers depend on its `Row` alone, so processes that share a batch draw what one would."""
        ...

    def trained(self) -> dict[str, nn.Parameter]:
        """Everything that trains, under its published name (where the part has two published
        files, behind `unet.` or `controlnet.`). Given to the optimizer and counted in `--dry-run`;
        enough, with the base, to go on."""
        ...

    def published_state(self) -> dict[str, StateDict]:
        """{file below a release's folder: its contents in the published layout}: what the loader
        nodes take. Detached, on the CPU, float32."""
        ...

    def load_published(self, files: Mapping[str, StateDict]) -> None:
        """Takes back what `published_state` gave, or a published release's files by the same
        names. Raises CheckpointError for missing, foreign or misshapen weights."""
        ...
