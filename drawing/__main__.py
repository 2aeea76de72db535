"""Writes what is drawn from the code; run it with the tests' environment.

python drawing workflows [COMFYUI]             workflow JSON in both forms, and blueprints
python drawing locales [COMFYUI]               English names and tooltips, from the schemas
python drawing thumbnails [NAME BEFORE AFTER]  cards of the template browser
python drawing pictures [NODE ...]             pictures of the help pages
"""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = Path.home() / "comfy" / "ComfyUI"


def module(name: str) -> Any:
    """A module of the pack, once it is registered."""
    return importlib.import_module(f"restoration.{name}")


def main() -> None:
    """Runs one of them."""
    what, *arguments = sys.argv[1:] or [""]
    if what not in ("workflows", "locales", "thumbnails", "pictures"):
        raise SystemExit(__doc__)
    runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()
    if what == "thumbnails":
        module("drawing.thumbnails").main(arguments)
    elif what == "pictures":
        module("drawing.help.pictures").main(arguments)
    else:
        comfyui = Path(arguments[0]) if arguments else COMFYUI
        module("tools.comfyui.inprocess").import_comfyui(comfyui)
        if what == "workflows":
            module("drawing.build").write_all()
        else:
            module("drawing.locales").write_english()


if __name__ == "__main__":
    main()
