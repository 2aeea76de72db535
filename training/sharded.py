"""Parameters that FSDP splits over the cards, as files need them: whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .errors import TrainingError

if TYPE_CHECKING:
    from accelerate import Accelerator


def check_sharding(accelerator: Accelerator) -> None:
    """TrainingError where parameters would be split in a way that no file could be written from."""
    from accelerate.utils import DistributedType

    plugin = accelerator.state.deepspeed_plugin
    first = accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2
    if first or (plugin and plugin.zero_stage == 3):
        raise TrainingError(
            f"accelerate is set up to split parameters by {'FSDP 1' if first else 'ZeRO 3'}, from "
            "which no file for the loader nodes could be written: choose FSDP with `fsdp_version: 2`, "
            "ZeRO 2 or plain data parallelism with `accelerate config`."
        )


def joined(value: Tensor) -> Tensor:
    """A tensor of which this process may hold a part only; every process must ask for it."""
    from torch.distributed.tensor import DTensor

    return value.full_tensor() if isinstance(value, DTensor) else value


@contextlib.contextmanager
def gathered(module: nn.Module, here: bool) -> Iterator[None]:
    """Within it all parameters are whole, in the process that says `here`, on the CPU; every
    process must enter. The module cannot compute meanwhile."""
    from torch.distributed.tensor import DTensor

    split = [
        (owner, name, parameter)
        for owner in module.modules()
        for name, parameter in owner._parameters.items()
        if isinstance(parameter, DTensor)
    ]
    try:
        for owner, name, parameter in split:
            value = joined(parameter.detach())  # one by one: a card may lack room for all
            if here:
                owner._parameters[name] = nn.Parameter(value.cpu(), parameter.requires_grad)
        yield
    finally:
        for owner, name, parameter in split:
            owner._parameters[name] = parameter
