"""What guidance functions remember of a call of the network.

A node may patch the network to keep something of a call (Self-Attention Guidance: the attention of
the negative rows) and use it after the step, in a function that gets the whole prediction. Where a
step has several calls, only the last one's is left. Such a function is known by what it does, not
by its node: during a call it gets tensors that it did not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from .view import Options

AFTER_THE_CALL = (
    "sampler_pre_cfg_function",
    "sampler_cfg_function",
    "sampler_post_cfg_function",
)
"""Where `model_options` holds functions that act on the predictions of a step."""
LEVELS = 4
"""How far below a function its tensors are looked for: variable, object, list, tensor."""


class CallState:
    """The tensors within reach of a run's guidance functions, as they were before a call."""

    def __init__(self, model_options: Options) -> None:
        self._before = [
            (function, list(_tensors(function, LEVELS)))
            for function in _functions_after_the_call(model_options)
        ]

    def changed(self) -> list[str]:
        """The nodes whose functions have got tensors since, by the names of their classes."""
        return [
            _node_of(function)
            for function, before in self._before
            if not {id(tensor) for tensor in _tensors(function, LEVELS)} <= {*map(id, before)}
        ]


def _functions_after_the_call(model_options: Options) -> Iterator[Callable[..., Any]]:
    for place in AFTER_THE_CALL:
        found = model_options.get(place) or ()
        yield from (found,) if callable(found) else found


def _tensors(value: Any, levels: int) -> Iterator[Tensor]:
    """Those that a value holds: a function in the variables it shares, a method in its object."""
    if isinstance(value, Tensor):
        yield value
    elif levels > 0 and not isinstance(value, nn.Module | ModelPatcher | ModuleType | type):
        for inner in _inside(value):
            yield from _tensors(inner, levels - 1)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set):
        return list(value)
    if isinstance(value, FunctionType):
        # An empty cell: a variable that nothing has been assigned to yet.
        cells = value.__closure__ or ()
        return [cell.cell_contents for cell in cells if _is_filled(cell)]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    return list(getattr(value, "__dict__", {}).values())


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _node_of(function: Any) -> str:
    """`SelfAttentionGuidance` of the function made in its `execute`; the class of an object."""
    owner = function if hasattr(function, "__qualname__") else type(function)
    return owner.__qualname__.partition(".")[0]
