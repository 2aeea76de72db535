"""Ray, as far as `cluster.py` uses it, in this process: actors that are killed when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError, wait
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any


class RayError(Exception):
    """What all errors of Ray are."""


class ActorUnavailableError(RayError):
    """It died, and starts again."""


class GetTimeoutError(RayError):
    """No answer yet."""


class RayTaskError(RayError):
    """What the actor raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Actor:
    """One actor; every life of it is an object of its class."""

    def __init__(self, make: Callable[[], Any], has_place: bool) -> None:
        self._make, self.has_place = make, has_place
        self._threads = ThreadPoolExecutor(8)
        self.lives = 0
        self.asked: list[str] = []
        self._begin()

    def _begin(self) -> None:
        self.died: Future[None] = Future()
        self._placed = threading.Event()
        self._object = None
        if self.has_place:
            self._object = self._make()
            self.lives += 1
            self._placed.set()

    def die(self, has_place: bool = True) -> None:
        """Killed outright: its ComfyUI ends as well, and Ray starts another one if it has a place."""
        old, died, self.has_place = self._object, self.died, has_place
        died.set_exception(ActorUnavailableError("it died"))
        if old is not None:
            old.close()
        self._begin()

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._submit(method, arguments))

    def _submit(self, method: str, arguments: tuple[Any, ...]) -> tuple[Future[Any], Future[None]]:
        self.asked.append(method)
        placed = self._placed

        def call() -> Any:
            if not placed.is_set():
                raise GetTimeoutError
            return getattr(self._object, method)(*arguments)

        return self._threads.submit(call) if placed.is_set() else Future(), self.died


class PretendRay(ModuleType):
    """Stands in for the module."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.__spec__ = ModuleSpec("ray", None)
        self.exceptions = SimpleNamespace(
            RayError=RayError, ActorUnavailableError=ActorUnavailableError,
            GetTimeoutError=GetTimeoutError, RayTaskError=RayTaskError,
        )  # fmt: skip
        self.actors: list[Actor] = []
        self.killed: list[Actor] = []
        self.resources = {"CPU": 4.0}
        self.places = 4
        self._making = threading.Lock()
        self.sessions: list[dict[str, Any]] = []

    def init(self, **settings: Any) -> None:
        self.sessions.append(settings)

    def shutdown(self) -> None:
        self.sessions.append({})

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, cls: type) -> Any:
        def make(*arguments: Any) -> Actor:
            with self._making:
                actor = Actor(lambda: cls(*arguments), len(self.actors) < self.places)
                self.actors.append(actor)
            return actor

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=make))

    def get(self, answer: tuple[Future[Any], Future[None]], timeout: float) -> Any:
        wait(answer, timeout, "FIRST_COMPLETED")
        result, died = answer
        if died.done():
            died.result()
        try:
            return result.result(0)
        except TimeoutError:
            raise GetTimeoutError from None
        except Exception as error:
            raise RayTaskError(error) from error

    def wait(self, answers: list[tuple[Future[Any], Future[None]]], **_: Any) -> None:
        wait([result for result, _ in answers], 10)

    def kill(self, actor: Actor) -> None:
        self.killed.append(actor)
        actor.die(has_place=False)
