"""A ComfyUI on each place that Ray assigns, as workers of the pool.

Every worker is a Ray actor that owns one ComfyUI. Ray chooses its machine and card, and starts it
again somewhere when its process or its machine dies; which picture is tried again, and where, the
pool decides, as for servers. Pictures travel as bytes, so the machines need not share a disk. The
same version of this pack lies at the same path on all of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..comfyui.client import Stopped
from ..comfyui.find import PACK_ROOT, HostError
from .errors import UsageError
from .execute import After, Attempt, Cause, Failure, Report, failure_sentence
from .guard import Guard
from .saving import Order, Task
from .server import CRASHES

PROGRAM = str(PACK_ROOT / "tools" / "package.py")
LONGEST = 24
"""Characters of a folder that leaves room for Ray's own below it."""
RESTART = 300.0
"""Seconds in which a dead actor has been started again and its ComfyUI answers, or neither does."""
PAUSE = 0.5
"""Seconds between two questions to one that is dead."""
CLOSING = 30.0
"""Seconds for a ComfyUI to end before Ray ends it."""


@dataclass(frozen=True)
class Cluster:
    """What the command line asks of Ray."""

    address: str | None
    """Of a cluster that runs; None: one on this machine, for the length of the run."""
    workers: int
    gpus: float
    """Cards of each worker, or the part of one."""
    comfyui: Path | None
    """Where ComfyUI is installed on the machines; None: where this pack finds it there."""
    arguments: tuple[str, ...]
    cpu: bool


@contextlib.contextmanager
def ray_workers(asked: Cluster, order: Order) -> Iterator[list[RayWorker]]:
    """The workers, for the length of the block; they start when the pool wants them.

    Raises UsageError where Ray is missing, not to be reached or has too little.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            f"--ray needs Ray, which this Python ({sys.executable}) does not have: run pip install "
            "ray in it, or name servers that run with --server, once for each."
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if asked.address is None:  # else Ray would keep one of its own in the home folder for ever
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    with _connected(ray, asked):
        _check_resources(ray, asked)
        workers = [RayWorker(ray, asked, order, number + 1) for number in range(asked.workers)]
        try:
            yield workers
        finally:
            _close(ray, workers)


@contextlib.contextmanager
def _connected(ray: Any, asked: Cluster) -> Iterator[None]:
    quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    if asked.address is not None:
        try:
            ray.init(address=asked.address, **quiet)
        except Exception as error:  # Ray's own, of many kinds
            raise UsageError(
                f"No Ray cluster answers at {asked.address} ({failure_sentence(error)}): start one "
                "with ray start --head, or leave the address out for one on this machine."
            ) from error
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Ray puts sockets there, whose paths may not be longer than about a hundred characters.
    usual = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="ray-", dir=usual if len(usual) < LONGEST else "/tmp")
    guard = Guard(Path(folder))
    try:
        ray.init(
            address="local", num_cpus=asked.workers, include_dashboard=False, _temp_dir=folder,
            object_store_memory=256 << 20, **quiet,
        )  # fmt: skip
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        guard.close()


def _check_resources(ray: Any, asked: Cluster) -> None:
    """Ray itself would wait for ever."""
    there = ray.cluster_resources()
    cores, cards, needed = there.get("CPU", 0.0), there.get("GPU", 0.0), asked.workers * asked.gpus
    if cards < needed:
        raise UsageError(
            f"{asked.workers} workers with {asked.gpus:g} cards each need {needed:g}, and the "
            f"cluster has {cards:g}: lower --workers or --gpus-per-worker (0.5 puts two workers on "
            "one card), or add --cpu."
        )
    if cores < asked.workers:
        raise UsageError(
            f"{asked.workers} workers need a processor core each, and the cluster has {cores:g}: "
            "lower --workers, or start Ray there with more by ray start --num-cpus."
        )


def _close(ray: Any, workers: list[RayWorker]) -> None:
    """Ends every ComfyUI, then its actor. One that only starts, or waits for its place, is killed at
    once, and leaves its ComfyUI to the watcher of that."""
    closed = [worker.actor.close.remote() for worker in workers if worker.answers]
    with contextlib.suppress(Exception):  # of those that have died meanwhile
        ray.wait(closed, num_returns=len(closed), timeout=CLOSING)
    for worker in workers:
        with contextlib.suppress(Exception):
            ray.kill(worker.actor)


class RayWorker:
    """One actor, as the pool sees it."""

    def __init__(self, ray: Any, asked: Cluster, order: Order, number: int) -> None:
        self.name = f"worker {number}"
        self.actor: Any = None
        self.answers = False
        """Whether it has a ComfyUI, as far as is known."""
        self._ray, self._asked, self._order = ray, asked, order
        self._comfyui, self._crashes, self._stopped = "", 0, False

    def start(self) -> None:
        """See `Worker`. The first time it waits until Ray has room for it; later only for RESTART."""
        self._stopped = False
        deadline = math.inf if self.actor is None else time.monotonic() + RESTART
        try:
            if self.actor is None:
                self.actor = self._make()
            while True:
                try:
                    self._comfyui = self._ask("ready", deadline, self._order)
                    break
                except self._ray.exceptions.ActorUnavailableError:  # until Ray has started it again
                    deadline = min(deadline, time.monotonic() + RESTART)
                    if time.monotonic() + PAUSE > deadline:
                        raise
                    time.sleep(PAUSE)
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from error
        except (HostError, self._ray.exceptions.RayError) as error:
            raise HostError(f"{self.name} did not start: {error}") from error
        self.answers = True

    def _make(self) -> Any:
        """The actor, which Ray places where there is room, and again where it dies."""
        made = self._ray.remote(_actor_class()).options(
            num_cpus=1, num_gpus=self._asked.gpus, max_restarts=-1, max_concurrency=2,
            scheduling_strategy="SPREAD",
        )  # fmt: skip
        return made.remote(
            PROGRAM, str(self._asked.comfyui or ""), self._asked.arguments, self._asked.cpu,
            os.environ.get("OMP_NUM_THREADS"),
        )  # fmt: skip

    def attempt(self, task: Task, progress: Report) -> Attempt:
        """See `Worker`."""
        try:
            data = _steady(task.path)
        except OSError as error:
            return Attempt(Failure(failure_sentence(error)), After.READY, self._comfyui)
        try:
            attempt = self._ask("attempt", math.inf, task, data)
        except (HostError, self._ray.exceptions.RayError) as error:
            return self._lost(error)
        if attempt.after is After.READY:
            self._crashes = 0
        else:
            self.answers = attempt.after is not After.GONE
        return attempt

    def _lost(self, error: Exception) -> Attempt:
        """After the death of the actor, which Ray starts again somewhere, and so a ComfyUI."""
        self.answers = False
        self._crashes += 1
        said = f"the process of {self.name} ended ({type(error).__name__})"
        failure = Failure(said, Cause.LOST)
        if self._crashes < CRASHES:
            return Attempt(failure, After.LOST, self._comfyui)
        return Attempt(failure, After.GONE, self._comfyui, f"{said}, {CRASHES} times in a row")

    def _ask(self, method: str, deadline: float, *arguments: Any) -> Any:
        """The answer of the actor; what it raised is raised here as it was there. HostError: none by
        the deadline."""
        answer = getattr(self.actor, method).remote(*arguments)
        while not self._stopped:
            try:
                return self._ray.get(answer, timeout=1.0)
            except self._ray.exceptions.GetTimeoutError:
                if time.monotonic() > deadline:
                    raise HostError(
                        f"it has had no place, or no ComfyUI there, for {RESTART:.0f} s"
                    ) from None
            except self._ray.exceptions.RayTaskError as error:
                raise error.cause from None
        raise Stopped

    def stop(self) -> None:
        """See `Worker`. The picture ends with its ComfyUI."""
        self._stopped = True


def _steady(path: Path) -> bytes:
    """The contents of a file that nobody writes meanwhile."""
    before = path.stat()
    data = path.read_bytes()
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise OSError(f"{path.name} changed while it was read: run the command again")
    return data


def _actor_class() -> type:
    """Made here, so that Ray sends the class itself: the other process cannot import this module
    until the class has made the pack importable."""

    class ComfyActor:
        def __init__(
            self,
            program: str,
            comfyui: str,
            arguments: tuple[str, ...],
            cpu: bool,
            threads: str | None,
        ) -> None:
            import importlib
            import os
            import runpy

            # Ray sets it to 1, and ComfyUI would be slower than one that was started by hand.
            os.environ.pop("OMP_NUM_THREADS", None)
            if threads is not None:
                os.environ["OMP_NUM_THREADS"] = threads
            runpy.run_path(program)["register_pack"]()
            owned = importlib.import_module("restoration.tools.folder.owned")
            self.comfy = owned.OwnedComfy(comfyui, arguments, cpu)

        def ready(self, order: Any) -> Any:
            return self.comfy.ready(order)

        def attempt(self, task: Any, data: bytes) -> Any:
            return self.comfy.attempt(task, data)

        def close(self) -> None:
            self.comfy.close()

    return ComfyActor
