"""A ComfyUI on each place that Ray assigns, as workers of the pool.

Every worker is a Ray actor that owns one ComfyUI. Ray chooses its machine and card, and starts it
again somewhere when its process or its machine dies; which picture is tried again, and where, the
pool decides, as for servers. Pictures travel as bytes, so the machines need not share a disk. The
same version of this pack lies at the same path on all of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
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
from .saving import Order, Task
from .server import CRASHES, WATCH

PROGRAM = str(PACK_ROOT / "tools" / "package.py")
LONGEST = 24
"""Characters of a folder that leaves room for Ray's own below it."""
RESTART = 300.0
"""Seconds in which Ray has started a dead actor again, or does not."""
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
    watch = subprocess.Popen(
        [sys.executable, "-c", WATCH, "0", folder], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        ray.init(
            address="local", num_cpus=asked.workers, include_dashboard=False, _temp_dir=folder,
            object_store_memory=256 << 20, **quiet,
        )  # fmt: skip
        yield
    finally:
        ray.shutdown()
        watch.communicate(b"closed")
        shutil.rmtree(folder, ignore_errors=True)


def _check_resources(ray: Any, asked: Cluster) -> None:
    """Ray itself would wait for ever."""
    cards, needed = ray.cluster_resources().get("GPU", 0.0), asked.workers * asked.gpus
    if cards < needed:
        raise UsageError(
            f"{asked.workers} workers with {asked.gpus:g} cards each need {needed:g}, and the "
            f"cluster has {cards:g}: lower --workers or --gpus-per-worker (0.5 puts two workers on "
            "one card), or add --cpu."
        )


def _close(ray: Any, workers: list[RayWorker]) -> None:
    """Ends every ComfyUI, then its actor. An actor that is killed first leaves that to a watcher."""
    actors = [worker.actor for worker in workers if worker.actor is not None]
    with contextlib.suppress(Exception):  # of those that are dead already
        ray.wait(
            [actor.close.remote() for actor in actors], num_returns=len(actors), timeout=CLOSING
        )
    for actor in actors:
        with contextlib.suppress(Exception):
            ray.kill(actor)


class RayWorker:
    """One actor, as the pool sees it."""

    def __init__(self, ray: Any, asked: Cluster, order: Order, number: int) -> None:
        self.name = f"worker {number}"
        self.actor: Any = None
        self._ray, self._asked, self._order = ray, asked, order
        self._life, self._comfyui, self._crashes, self._stopped = "", "", 0, False

    def start(self) -> None:
        """See `Worker`. Waits until Ray has room for it."""
        if self.actor is None:
            made = self._ray.remote(_actor_class()).options(
                num_cpus=1, num_gpus=self._asked.gpus, max_restarts=-1, max_concurrency=2,
                scheduling_strategy="SPREAD",
            )  # fmt: skip
            asked = (
                str(self._asked.comfyui or ""), self._asked.arguments, self._asked.cpu,
                os.environ.get("OMP_NUM_THREADS"),
            )  # fmt: skip
            self.actor = made.remote(PROGRAM, *asked)
        self._ready()

    def _ready(self) -> None:
        """Returns when ComfyUI answers there, with what the workflow needs."""
        try:
            self._life, self._comfyui = self._ask("ready", self._order)
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from error
        except (HostError, self._ray.exceptions.RayError) as error:
            raise HostError(f"{self.name} did not start: {error}") from error

    def attempt(self, task: Task, progress: Report) -> Attempt:
        """See `Worker`."""
        try:
            data = _steady(task.path)
        except OSError as error:
            return Attempt(Failure(failure_sentence(error)), After.READY, self._comfyui)
        try:
            attempt = self._ask("attempt", task, data)
        except self._ray.exceptions.RayError as error:
            return self._recovered(error)
        if attempt.after is After.READY:
            self._crashes = 0
        return attempt

    def _recovered(self, error: Exception) -> Attempt:
        """After the actor's death: Ray starts another one, and so a ComfyUI."""
        said = f"the process of {self.name} ended ({type(error).__name__})"
        before = self._life
        self._crashes += 1
        try:
            if self._crashes >= CRASHES:
                raise HostError(f"{said}, {CRASHES} times in a row")
            self._ready_again()
        except (HostError, UsageError) as gone:
            return Attempt(Failure(said, Cause.LOST), After.GONE, self._comfyui, str(gone))
        if self._life == before:  # only the connection was lost
            return Attempt(Failure(said), After.READY, self._comfyui)
        return Attempt(Failure(said, Cause.LOST), After.RESTARTED, self._comfyui)

    def _ready_again(self) -> None:
        """Like `_ready`, of an actor whose death Ray has yet to notice, or that it starts again."""
        deadline = time.monotonic() + RESTART
        while True:
            try:
                return self._ready()
            except HostError as error:
                dead = isinstance(error.__cause__, self._ray.exceptions.RayActorError)
                if not dead or time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE)

    def _ask(self, method: str, *arguments: Any) -> Any:
        """The answer of the actor; what it raised is raised here as it was there."""
        answer = getattr(self.actor, method).remote(*arguments)
        while not self._stopped:
            try:
                return self._ray.get(answer, timeout=1.0)
            except self._ray.exceptions.GetTimeoutError:
                continue
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
