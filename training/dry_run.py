"""What a run will need, said before it begins; and one step, of which nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from .config import Config
from .loop import Trainer
from .opened import Opened

if TYPE_CHECKING:
    from accelerate import Accelerator

BYTES = 16
"""For every trained parameter: itself, its gradient and AdamW's two moments, in float32."""
SHOWN = 6
GB = 1e9


def dry_run(config: Config, opened: Opened, accelerator: Accelerator) -> Iterator[str]:
    """Lines about sizes, trained keys, memory and one step."""
    trained = opened.part.trained()
    module = cast(nn.Module, opened.part)
    count = sum(each.numel() for each in trained.values())
    own = {id(each) for each in trained.values()}
    frozen = [each for each in module.parameters() if id(each) not in own]
    held = sum(each.numel() * each.element_size() for each in frozen)
    names = list(trained)
    yield f"part        {config.part}, authors = {config.authors!r}"
    yield f"pictures    {opened.pictures}, {config.data.size} x {config.data.size} of each"
    yield f"trained     {count / 1e6:.2f} M parameters in {len(names)} keys"
    for name in names[:SHOWN]:
        yield f"            {name} {list(trained[name].shape)}"
    if len(names) > SHOWN:
        yield f"            and {len(names) - SHOWN} more"
    yield f"frozen      {sum(each.numel() for each in frozen) / 1e6:.2f} M parameters"
    yield (
        f"memory      {(count * BYTES + held) / GB:.2f} GB on every card before activations "
        f"({BYTES} bytes a trained parameter)"
    )
    trainer = Trainer(config, opened, accelerator)
    share = trainer.share
    yield (
        f"a step      {share.batch} pictures: {share.processes} processes, {share.at_once} at once, "
        f"{share.accumulation} times"
    )
    step = trainer.step(0, trainer.batches(0, 1))
    terms = ", ".join(f"{name} {value:.5g}" for name, value in step.terms.items())
    yield f"one step    loss {step.loss:.5g} ({terms}), gradient norm {step.norm:.5g}"
    yield f"            {step.seconds:.1f} s; {_peak()}nothing was written"


def _peak() -> str:
    if not torch.cuda.is_available():
        return ""
    peak: Any = torch.cuda.max_memory_allocated()
    return f"{peak / GB:.2f} GB at the most; "
