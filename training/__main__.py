"""The command line of training; works under any folder name, from any folder.

python PATH/TO/training pasd --config pasd.toml                          one process
accelerate launch PATH/TO/training/__main__.py pasd --config pasd.toml   one for every card
python PATH/TO/training data check --config pasd.toml
"""

# ruff: noqa: T201
from __future__ import annotations

import importlib
import os
import runpy
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = "restoration"
# Not only below: a worker that is spawned imports this file, and then unpickles what is ours.
runpy.run_path(os.path.join(HERE, "..", "tools", "package.py"))["register_pack"]()
# Python puts the folder of what it starts here, where our `data` and `log` would hide others'.
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != os.path.realpath(HERE)]


def run() -> int:
    """The command line as a program; its exit code."""
    try:
        commands = importlib.import_module(f"{PACKAGE}.training.commands")
        return commands.main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(PACKAGE):
            raise  # ours
        print(
            f"This Python ({sys.executable}) has no {error.name}. Use one that has what ComfyUI "
            "needs, and the extra: pip install accelerate tensorboard webdataset.",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(run())
