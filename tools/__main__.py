"""The command line: fetches, looks at and converts weight files, and sends folders through a workflow.

python -m tools inspect FILE...      in the pack's folder; anywhere: python PATH/TO/tools ...
"""

# ruff: noqa: T201
from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys

PACKAGE = "restoration"
register_pack = runpy.run_path(os.path.join(os.path.dirname(__file__), "package.py"))[
    "register_pack"
]


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def run() -> int:
    """The command line as a program: an interrupt never shows a traceback, and ends cleanly."""
    interrupt = signal.getsignal(signal.SIGINT)  # ignored where a shell started us so
    if interrupt is signal.default_int_handler:
        # Nothing is at work while libraries load, and some of them swallow the exception.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    register_pack()
    try:
        commands = importlib.import_module(f"{PACKAGE}.tools.commands")
        parser = commands.command_parser()  # which loads them
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(PACKAGE):
            raise  # ours
        print(
            f"This Python ({sys.executable}) has no {error.name}. Use ComfyUI's own, which has all "
            "that is needed, or the pack's .venv once scripts/demo.sh has made it.",
            file=sys.stderr,
        )
        return 1
    signal.signal(signal.SIGINT, interrupt)
    for name in ("SIGTERM", "SIGHUP"):  # the second one when a terminal is closed; not on Windows
        if (number := getattr(signal, name, None)) and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # names in any script
    return commands.main(parser=parser)


if __name__ == "__main__":
    sys.exit(run())
