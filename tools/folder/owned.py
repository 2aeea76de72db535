"""A ComfyUI of our own that lives as long as its owner does, somewhere in a cluster."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..comfyui.find import HostError, find_host
from .execute import Attempt, Failure, ServerWorker
from .saving import Order, Task
from .server import Server, check_needs, serving


class OwnedComfy:
    """Starts when it is first needed."""

    def __init__(self, comfyui: str, arguments: Sequence[str], cpu: bool) -> None:
        """comfyui: where it is installed; empty: where this pack finds one."""
        self._comfyui, self._arguments, self._cpu = comfyui, arguments, cpu
        self._started = contextlib.ExitStack()
        self._server: Server | None = None
        self._closed = False
        self._starting = threading.Lock()
        self._working = threading.Lock()

    def ready(self, order: Order) -> str:
        """ComfyUI's version, once it answers. HostError, UsageError."""
        server = self._serving()
        server.version()
        check_needs(server.client, order.job, order.workflow)
        return server.comfyui

    def _serving(self) -> Server:
        with self._starting:
            if self._server is None and not self._closed:
                self._server = self._started.enter_context(
                    serving(self._folder(), self._arguments, self._cpu)
                )
        if self._server is None or self._closed:
            raise HostError("it is closed")
        return self._server

    def _folder(self) -> Path:
        if self._comfyui:
            return Path(self._comfyui)
        if (found := find_host()) is None:
            raise HostError("no ComfyUI is found there: name its folder with --comfyui")
        return found.path

    def attempt(self, task: Task, data: bytes) -> Attempt:
        """Has a picture done whose contents somebody else has read. HostError, UsageError: only where
        this owner has yet to start."""
        if self._server is None:  # whoever asked was ready with the owner before this one
            self.ready(task.order)
        server = self._serving()
        assert server.folder is not None  # for it is our own
        here = server.folder / "picture" / task.path.name
        here.parent.mkdir(exist_ok=True)
        here.write_bytes(data)
        try:
            with self._working:
                attempt = ServerWorker(server).attempt(replace(task, path=here))
        finally:
            here.unlink(missing_ok=True)
        if isinstance(attempt.outcome, Failure):
            return attempt
        made = attempt.outcome
        record = made.record | {"input": str(task.path)}
        return replace(attempt, outcome=replace(made, record=record))

    def close(self) -> None:
        """Ends ComfyUI; a picture at work fails."""
        self._closed = True
        with self._starting:
            if self._server is not None:
                self._server.client.stopping.set()
            with self._working:  # which may be about to start ComfyUI again
                self._started.close()
