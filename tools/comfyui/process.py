"""A ComfyUI on this machine as a process of our own, for the length of a `with` block."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .client import ComfyClient
from .find import PACK_ROOT, Host, HostError

COPY_IGNORES = (".*", "output", "__pycache__", "tests", "*.pyc")


def free_port() -> int:
    """A TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def copy_pack(target: Path, pack_root: Path = PACK_ROOT) -> Path:
    """Copies what a user's installation of the pack holds; returns the copy."""
    return shutil.copytree(pack_root, target, ignore=shutil.ignore_patterns(*COPY_IGNORES))


@dataclass
class ComfyServer(ComfyClient):
    """A ComfyUI on this machine with the pack installed, for the length of a `with` block.

    The server has its own empty base folder, which is removed at the end; nothing is written into
    the host's checkout but Python's byte code.
    """

    host: Host
    pack_root: Path = PACK_ROOT
    folder_name: str = "diffusion-restoration"
    """Name of the pack's folder under custom_nodes."""
    install: Literal["symlink", "copy", "none"] = "symlink"
    frontend: Path | None = None
    """Front end to serve; None serves an empty page, which is enough without a browser."""
    python: str = field(default_factory=lambda: os.environ.get("COMFYUI_PYTHON", sys.executable))
    extra_arguments: Sequence[str] = ()
    start_timeout: float = 600.0
    cpu: bool = True
    """False lets ComfyUI choose its device."""

    base: Path = field(init=False)
    url: str = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)
    _interruptible: bool = field(init=False, default=True)
    """It hears SIGINT: what nohup or a shell starts in the background does not, nor what it starts."""

    def __enter__(self) -> ComfyServer:
        self.base = Path(tempfile.mkdtemp(prefix="comfy-host-"))
        try:
            self._prepare_base()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Life cycle

    @property
    def pack_path(self) -> Path:
        """Where the pack lies in this server's custom_nodes folder."""
        return self.base / "custom_nodes" / self.folder_name

    def _prepare_base(self) -> None:
        for name in ("custom_nodes", "input", "output", "temp", "user", "models", "empty"):
            (self.base / name).mkdir()
        (self.base / "empty" / "index.html").write_text("<!doctype html><title>ComfyUI</title>")
        example = self.host.path / "input" / "example.png"
        if example.is_file():
            shutil.copy(example, self.base / "input")
        if self.install == "symlink":
            self.pack_path.symlink_to(self.pack_root, target_is_directory=True)
        elif self.install == "copy":
            copy_pack(self.pack_path, self.pack_root)

    def _start(self) -> None:
        self._launch()
        assert self._process is not None
        deadline = time.monotonic() + self.start_timeout
        while True:
            if (code := self._process.poll()) is not None:
                raise self.failure(f"stopped while starting (exit code {code})")
            with contextlib.suppress(OSError, ValueError):
                self.get_json("/system_stats", timeout=5)
                return
            if time.monotonic() > deadline:
                raise self.failure(f"did not answer within {self.start_timeout:.0f} s")
            time.sleep(0.1)

    def _launch(self) -> None:
        """Starts the process, and does not wait for it."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            self.python, str(self.host.path / "main.py"), *(["--cpu"] if self.cpu else []),
            "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(self.base),
            "--disable-auto-launch", "--disable-api-nodes", "--dont-print-server",
            "--database-url", "sqlite:///:memory:",
            "--front-end-root", str(self.frontend or self.base / "empty"),
            *self.extra_arguments,
        ]  # fmt: skip
        # Windows knows no other signal than SIGTERM to send.
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        self._interruptible = not ignored and sys.platform != "win32"
        environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        with (self.base / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.host.path, stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, env=environ, start_new_session=True,
            )  # fmt: skip

    def check_alive(self) -> None:
        if self._process is not None and (code := self._process.poll()) is not None:
            raise self.failure(f"stopped while the workflow ran (exit code {code})")

    def failure(self, what: str) -> HostError:
        tail = "\n".join(self.log().splitlines()[-25:])
        return HostError(f"ComfyUI {self.host.version} {what}. The end of its log:\n{tail}")

    def close(self) -> None:
        """Stops the server and removes its base folder; harmless when called twice."""
        if (process := self._process) is not None:
            interrupts = (signal.SIGINT,) if self._interruptible else ()
            for number in (*interrupts, signal.SIGTERM):
                if process.poll() is not None:
                    break
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait(10)
            self._process = None
        shutil.rmtree(self.base, ignore_errors=True)

    def log(self) -> str:
        """Everything the server has printed so far."""
        path = self.base / "server.log"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def pack_nodes(self) -> dict[str, dict[str, Any]]:
        """The nodes that come from the pack's folder."""
        module = f"custom_nodes.{self.folder_name}"
        nodes = self.object_info().items()
        return {name: info for name, info in nodes if info.get("python_module") == module}
