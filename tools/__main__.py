"""The command line: looks at weight files, converts them, and sends folders through a workflow.

python -m tools inspect FILE...      in the pack's folder; anywhere: python PATH/TO/tools ...
"""

# ruff: noqa: T201
from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path

# Not resolved: a pack linked into a custom_nodes folder still sees that folder as its own place.
ROOT = Path(os.path.abspath(__file__)).parent.parent
PACKAGE = "restoration"


def register_pack() -> None:
    """Makes the pack importable as a package, and takes its folders off sys.path again: Python
    has put one there to find this file, and our `nodes` would hide ComfyUI's."""
    ours = {ROOT.resolve(), ROOT.resolve() / "tools"}
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in ours]
    if PACKAGE in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        PACKAGE, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    module = sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


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
