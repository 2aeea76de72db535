"""The command line: looks at weight files, converts them, and sends folders through a workflow.

python -m tools inspect FILE...      in the pack's folder; anywhere: python PATH/TO/tools ...
"""

from __future__ import annotations

import importlib
import importlib.util
import os
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


if __name__ == "__main__":
    register_pack()
    sys.exit(importlib.import_module(f"{PACKAGE}.tools.commands").main())
