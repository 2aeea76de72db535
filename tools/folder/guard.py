"""Cleans up where this process is killed outright and cannot: a small process waits for its end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import contextlib, os, shutil, signal, sys, time

def end(number):
    os.kill(number, signal.SIGTERM)
    if os.name == "nt":  # where that has ended it, and 0 would be Ctrl-C
        return
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        os.kill(number, 0)  # fails once it has ended
        time.sleep(0.1)
    os.kill(number, signal.SIGKILL)

if hasattr(os, "fork") and os.fork():
    os._exit(0)
said = sys.stdin.read().split()
if "closed" not in said:
    for number in map(int, said):
        with contextlib.suppress(OSError):
            end(number)
    gone, deadline = 0, time.monotonic() + 15
    while gone < 2 and time.monotonic() < deadline:  # what still ends may write once more
        there = os.path.exists(sys.argv[1])
        shutil.rmtree(sys.argv[1], ignore_errors=True)
        gone = 0 if there else gone + 1
        time.sleep(0.5)
"""
"""Reads until its input is closed, which the death of the one who holds the other end does. It is no
child of that one: Ray kills these with a process that it ends."""


class Guard:
    """Of one folder and of the processes that it is told of, from here to `close`."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def add(self, number: int) -> None:
        """A process that is to end as well."""
        self._say(f"{number}\n")

    def close(self) -> None:
        """Once all of it has been cleaned up."""
        self._say("closed")
        self._process.communicate()

    def _say(self, words: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it was killed itself
            self._process.stdin.write(words.encode())
            self._process.stdin.flush()
