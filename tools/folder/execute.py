"""Who does the work: maps tasks over workers. The records come back to the one who asked, and only
that one writes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ..comfyui.client import Progress, PromptError
from ..comfyui.find import HostError
from .saving import Task
from .server import Server
from .work import Made, work

Report = Callable[[Progress], None]


class Cause(Enum):
    """What a failure is laid to, in the words of the summary."""

    WORKFLOW = "refused or failed by the workflow"
    PICTURE = "could not be read, sent or written"
    LOST = "lost with the ComfyUI that had it"


@dataclass(frozen=True)
class Failure:
    """Why a picture has no result."""

    error: str
    cause: Cause = Cause.PICTURE
    of_all: bool = False
    """Whether every other picture would fail the same way."""


@dataclass(frozen=True)
class Ended:
    """A task that is over."""

    task: Task
    outcome: Made | Failure
    comfyui: str
    """The version of the server that had it."""
    worker: str
    """The name of the worker that had it."""


class After(Enum):
    """What has become of a worker once it has had a picture."""

    READY = "ready"
    LOST = "has lost its ComfyUI; once `start` returns again, it has another one"
    GONE = "does not come back"


@dataclass(frozen=True)
class Attempt:
    """A picture that a worker has had."""

    outcome: Made | Failure
    after: After
    comfyui: str
    why: str = ""
    """Of a worker that is gone."""


class Worker(Protocol):
    """One ComfyUI, wherever it is."""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        ...

    def start(self) -> None:
        """Returns when it can take a picture. HostError: it never will; UsageError: it lacks what
        the workflow needs; Stopped: see `stop`."""
        ...

    def attempt(self, task: Task, progress: Report) -> Attempt:
        """Has one picture done. Whatever that raises is in the answer; only an interrupt passes."""
        ...

    def stop(self) -> None:
        """From another thread: what it waits for is given up, and `attempt` or `start` raises
        Stopped. The next `start` forgets it."""
        ...


class Executor(Protocol):
    """Maps tasks over workers."""

    def map(self, tasks: Iterable[Task], progress: Report) -> Generator[Ended, None, None]:
        """Every task as it ends, in any order. Whatever a picture raises is its failure; HostError:
        no worker is left, and the tasks that did not come are still to be done."""
        ...


@dataclass
class ServerWorker:
    """A ComfyUI that this process talks to."""

    server: Server

    @property
    def name(self) -> str:
        return self.server.client.url

    def start(self) -> None:
        """See `Worker`. It was looked at before the run, and `attempt` starts one of our own again:
        nothing is left to do."""

    def attempt(self, task: Task, progress: Report = lambda step: None) -> Attempt:
        """See `Worker`. A server of our own that died is started again."""
        try:
            made = work(task, self.server, progress)
        except PromptError as error:
            failure = Failure(str(error), Cause.WORKFLOW, _refuses_all(error, task))
            return Attempt(failure, After.READY, self.server.comfyui)
        except Exception as error:  # decoders raise what they like
            return self._recovered(failure_sentence(error))
        self.server.succeeded()
        return Attempt(made, After.READY, self.server.comfyui)

    def _recovered(self, error: str) -> Attempt:
        comfyui = self.server.comfyui
        try:
            if self.server.recover():
                return Attempt(Failure(error), After.READY, comfyui)
        except HostError as gone:
            return Attempt(Failure(error, Cause.LOST), After.GONE, comfyui, str(gone))
        return Attempt(Failure(error, Cause.LOST), After.LOST, comfyui)

    def stop(self) -> None:
        self.server.client.stopping.set()


@dataclass
class OneByOne:
    """One picture after another on one worker."""

    worker: Worker

    def map(self, tasks: Iterable[Task], progress: Report) -> Generator[Ended, None, None]:
        """See `Executor`. With no other worker to go to, a picture that is lost has failed."""
        for task in tasks:
            attempt = self.worker.attempt(task, progress)
            yield Ended(task, attempt.outcome, attempt.comfyui, self.worker.name)
            if attempt.after is After.GONE:
                raise HostError(attempt.why)
            if attempt.after is After.LOST:
                self.worker.start()


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
