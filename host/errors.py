"""Whose an error is. A node that patches a model fails in the sampler, long after it ran; a node
inside another is on nobody's canvas. The message then names the node that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, TypeVar

from comfy_execution.utils import get_executing_context

F = TypeVar("F", bound=Callable[..., Any])

_running: ContextVar[str] = ContextVar("node of the pack that is running", default="")
_CLAIMED = "diffusion_restoration_claimed"
"""Attribute of an error whose owner is known. Errors pass several patches on their way out."""


@contextmanager
def running(node: str) -> Iterator[None]:
    """While a node executes. node: its display name."""
    token = _running.set(node)
    try:
        yield
    finally:
        _running.reset(token)


def running_node() -> str:
    """The display name of the pack's node that is executing; empty where none is. Whoever sets a
    patch asks then, and remembers it for `claiming`."""
    return _running.get()


def inner_id(name: str) -> str:
    """An id for a node inside the running one; `outer_node` reads it."""
    return f"{running_node()}: {name}"


def outer_node() -> str:
    """The display name of the node that the executing one, of any pack, is inside of, or empty."""
    context = get_executing_context()
    before, inside, _ = (context.node_id if context else "").rpartition(": ")
    return before.rpartition(".")[2] if inside else ""


def claim(error: Exception, node: str) -> None:
    """Begins an error's message with the node that it is of, and the one outside of that; only the
    first claim counts. node: a display name, or empty for another's error. The type stays, and a
    message that names the node is not doubled."""
    if hasattr(error, _CLAIMED):
        return
    setattr(error, _CLAIMED, True)
    for name in (node, outer_node()):
        _begin(error, name)


def _begin(error: Exception, name: str) -> None:
    said = str(error)
    # Others print something else than their only argument: a number beside it, or quotes.
    if name and said and error.args == (said,) and name.partition(" (")[0] not in said:
        error.args = (f"{name}: {said}",)


def claiming(function: F, node: str) -> F:
    """The function, whose errors are those of a node."""

    @wraps(function)
    def claimed(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            claim(error, node)
            raise

    return claimed  # pyright: ignore[reportReturnType]


class _Beyond:
    """A host's executor, as a patch sees it: what fails in it is not the patch's."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._call = claiming(executor, "")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)


def claiming_wrapper(wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper for the host, (executor, ...) -> result, whose own errors are those of the node that
    is running now."""

    @wraps(wrapper)
    def beyond(executor: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(_Beyond(executor), *args, **kwargs)

    return claiming(beyond, running_node())
