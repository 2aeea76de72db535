"""Who does the work: maps tasks over servers. The records come back to the one who asked, and only
that one writes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

from ..comfyui.client import Progress, PromptError
from .saving import Task
from .server import Server
from .work import Made, work


@dataclass(frozen=True)
class Failure:
    """Why a picture has no result."""

    error: str
    of_all: bool = False
    """Whether every other picture would fail the same way."""


@dataclass(frozen=True)
class Ended:
    """A task that is over."""

    task: Task
    outcome: Made | Failure
    comfyui: str
    """The version of the server that had it."""


class Executor(Protocol):
    """Maps tasks over servers."""

    def map(
        self, tasks: Iterable[Task], progress: Callable[[Progress], None]
    ) -> Generator[Ended, None, None]:
        """Every task as it ends, in any order. Whatever a picture raises is its failure; HostError:
        no server is left, and the tasks that did not come are still to be done."""
        ...


@dataclass
class OneServer:
    """One picture after another on one server."""

    server: Server

    def map(
        self, tasks: Iterable[Task], progress: Callable[[Progress], None]
    ) -> Generator[Ended, None, None]:
        """See `Executor`. A server of our own that died is started again."""
        for task in tasks:
            try:
                made = work(task, self.server, progress)
            except PromptError as error:
                yield Ended(
                    task, Failure(str(error), _refuses_all(error, task)), self.server.comfyui
                )
            except Exception as error:  # decoders raise what they like
                yield Ended(task, Failure(failure_sentence(error)), self.server.comfyui)
                self.server.recover()
            else:
                self.server.succeeded()
                yield Ended(task, made, self.server.comfyui)


def failure_sentence(error: Exception) -> str:
    """An exception as a failure of a picture: our own sentences as they are, others with the name
    that alone says what they mean."""
    kind, said = type(error).__name__, f"{error}"
    if not said:
        return kind
    return said if isinstance(error, OSError | RuntimeError) else f"{kind}: {said}"


def _refuses_all(error: PromptError, task: Task) -> bool:
    """Whether the server refused the workflow for something else than the picture."""
    nodes = error.details.get("node_errors") or {}
    return bool(nodes) and task.order.job.node not in nodes
