"""Makes the pack importable as `restoration`, wherever it lies and whatever its folder is called.

ComfyUI names the package after its folder, and the root may not lie on sys.path, where our `nodes`
would hide ComfyUI's. Programs load this file by its path, before anything of ours can be imported:

    runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

# Not resolved: a pack linked into a custom_nodes folder still sees that folder as its own place.
ROOT = Path(os.path.abspath(__file__)).parents[1]
NAME = "restoration"


def register_pack() -> None:
    """Registers the package, and takes the root and this folder off sys.path: Python has put one
    there when it was started with `-m tools`."""
    ours = {ROOT.resolve(), ROOT.resolve() / "tools"}
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in ours]
    if NAME in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
