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

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = Path.home() / "comfy" / "ComfyUI"


def main() -> None:
    """Runs one of them."""
    what, *arguments = sys.argv[1:] or [""]
    if what not in ("workflows", "locales", "thumbnails", "pictures"):
        raise SystemExit(__doc__)
    runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()

    def module(name: str) -> object:
        return importlib.import_module(f"restoration.{name}")

    if what == "thumbnails":
        module("drawing.thumbnails").main(arguments)  # type: ignore[attr-defined]
    elif what == "pictures":
        module("drawing.help_pictures").main(arguments)  # type: ignore[attr-defined]
    else:
        comfyui = Path(arguments[0]) if arguments else COMFYUI
        module("tools.comfyui.inprocess").import_comfyui(comfyui)  # type: ignore[attr-defined]
        if what == "workflows":
            module("drawing.build").write_all()  # type: ignore[attr-defined]
        else:
            module("drawing.locales").write_english()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
