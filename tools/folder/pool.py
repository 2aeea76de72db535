"""Several workers at once: a thread for each feeds it one picture after another.

A picture whose worker dies is set aside until all others have begun, and then goes to a worker that
has not had it: if it is the picture that kills, it kills one worker while there is other work, and
at most `retries` more after that. A worker that starts, for the first time or again, holds no picture:
the others go on, and when they have done everything, nobody waits for it. A worker has one picture in
hand, and no more results wait than there are workers, so memory does not grow with the number of
pictures.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, Full, Queue

from ..comfyui.client import Stopped
from ..comfyui.find import HostError
from .execute import After, Attempt, Cause, Ended, Failure, Report, Worker
from .saving import Task

RETRIES = 2
"""How many other workers a picture goes to, one after the other, once its first one has died."""
PAUSE = 0.2
"""Seconds after which a waiting thread looks whether it is still wanted."""


@dataclass
class Pool:
    """Pictures on several workers at once, each as fast as it is."""

    workers: Sequence[Worker]
    """No two of one name."""
    retries: int = RETRIES

    def map(self, tasks: Iterable[Task], progress: Report) -> Generator[Ended, None, None]:
        """See `Executor`. The steps of nodes are not reported: they would be of several pictures."""
        run = _Run(iter(tasks), {worker.name for worker in self.workers}, self.retries)
        threads = [
            threading.Thread(target=run.serve, args=(worker,), daemon=True)
            for worker in self.workers
        ]
        try:
            for thread in threads:
                thread.start()
            while True:
                with contextlib.suppress(Empty):
                    yield run.ended.get(timeout=PAUSE)
                    continue
                # Asked in this order: what is over has told before.
                over = run.is_over() or not any(thread.is_alive() for thread in threads)
                if over and run.ended.empty():
                    break
        finally:
            run.stop.set()
            for worker, thread in zip(self.workers, threads, strict=True):
                while thread.is_alive():  # again, for one that begins to start forgets it
                    worker.stop()
                    thread.join(PAUSE)
        if run.error is not None:
            raise run.error
        if not run.exhausted:
            raise HostError(f"No ComfyUI is left of {len(self.workers)}. The last one: {run.why}")


@dataclass
class _Aside:
    """A picture that workers were lost with."""

    task: Task
    last: Attempt
    had: set[str]
    """The workers that had it."""


@dataclass
class _Run:
    """One call of `Pool.map`, as its threads share it."""

    tasks: Iterator[Task]
    alive: set[str]
    """Workers that may still take a picture."""
    retries: int
    ended: Queue[Ended] = field(init=False)
    stop: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    """What ends the run for all."""
    exhausted: bool = False
    """No task is left to begin with."""
    why: str = ""
    """Of the last worker that is gone."""
    _aside: list[_Aside] = field(default_factory=list)
    _at_work: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.ended = Queue(len(self.alive))

    def serve(self, worker: Worker) -> None:
        """The thread of a worker, until nothing is left that it could do."""
        try:
            worker.start()
            while (taken := self._take(worker.name)) is not None:
                attempt = worker.attempt(taken.task, lambda step: None)
                lost = attempt.after is not After.READY
                if not lost:
                    self._tell(taken.task, attempt, worker.name)
                with self._changed:
                    self._at_work -= 1
                    if lost:
                        taken.last = attempt
                        taken.had.add(worker.name)
                        self._aside.append(taken)
                    if attempt.after is After.GONE:
                        self._leave(worker.name, attempt.why)
                    self._changed.notify_all()
                self._give_up()
                if attempt.after is After.GONE:
                    return
                if lost:
                    worker.start()
        except Stopped:
            pass
        except HostError as error:  # while it started
            with self._changed:
                self._leave(worker.name, str(error))
                self._changed.notify_all()
            self._give_up()
        except BaseException as error:  # ends the run: `map` raises it
            self.error = self.error or error
            self.stop.set()

    def is_over(self) -> bool:
        """Whether every task has ended."""
        with self._changed:
            return self.exhausted and not (self._at_work or self._aside)

    def _take(self, name: str) -> _Aside | None:
        """The next picture for a worker; waits while one may still come back. None: the end."""
        with self._changed:
            while not self.stop.is_set():
                if not self.exhausted:
                    if (task := next(self.tasks, None)) is not None:
                        self._at_work += 1
                        return _Aside(task, _NONE, set())
                    self.exhausted = True
                for each in self._aside:
                    if name not in each.had:
                        self._aside.remove(each)
                        self._at_work += 1
                        return each
                if not self._at_work:
                    return None
                self._changed.wait(PAUSE)
        return None

    def _leave(self, name: str, why: str) -> None:
        self.alive.discard(name)
        self.why = why

    def _give_up(self) -> None:
        """Ends the pictures that no worker may take any more."""
        with self._changed:
            given_up = [
                each
                for each in self._aside
                if len(each.had) > self.retries or self.alive <= each.had
            ]
            self._aside = [each for each in self._aside if each not in given_up]
        for each in given_up:
            outcome = each.last.outcome
            assert isinstance(outcome, Failure)
            names = " and ".join(sorted(each.had))
            error = f"given up, for ComfyUI ended at work on it at {names}; the last time: "
            failure = Failure(error + outcome.error, Cause.LOST)
            self._tell(each.task, Attempt(failure, After.READY, each.last.comfyui), names)

    def _tell(self, task: Task, attempt: Attempt, worker: str) -> None:
        """Hands on what has ended; waits while more wait than there are workers."""
        ended = Ended(task, attempt.outcome, attempt.comfyui, worker)
        while not self.stop.is_set():
            with contextlib.suppress(Full):
                self.ended.put(ended, timeout=PAUSE)
                return


_NONE = Attempt(Failure(""), After.READY, "")
