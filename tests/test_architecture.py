"""Who may import whom: the table of docs/architecture.md, and a reader that holds the tree to it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from restoration.registry import METHODS
from restoration.tests.imports import LEFT, Import, python_files, read_imports

ROOT = Path(__file__).parent.parent
HOSTED = ("networks", "load", "attach", "guide", "sampler", "run", "trainable")
"""Files of a method that may import ComfyUI, by name; all its others are pure."""
TENSORS = ("torch", "einops", "kornia", "numpy", "safetensors", "scipy", "spandrel")
"""All that pure code stands on; ComfyUI ships it."""
HEAVY = ("kornia", "safetensors", "scipy", "spandrel")
"""Those that cost a second to import: inside functions only."""
COMFYUI = (
    "comfyui_version", "cuda_malloc", "execution", "folder_paths", "latent_preview", "main",
    "node_helpers", "nodes", "server",
)  # fmt: skip
"""ComfyUI's own modules, beside all that begin with `comfy`."""


@dataclass(frozen=True)
class Row:
    """What one part of the house may import."""

    ours: str
    comfyui: bool | str = False
    """`late`: inside functions only."""
    libraries: tuple[str, ...] | None = None
    """Beside the standard library; None: whatever is installed."""


ANYTHING = "everything"
TABLE = {
    "__init__": Row("nodes", comfyui="late", libraries=()),
    "registry": Row("pure common", libraries=()),
    "common": Row("common", libraries=TENSORS),
    "pure": Row("own-pure common", libraries=TENSORS),
    "host": Row("host common", comfyui=True),
    "hosted": Row("own-pure own-hosted tagger host common", comfyui=True),
    "nodes": Row("nodes registry pure hosted host common", comfyui=True),
    "tools": Row("tools bare registry pure common"),
    "checked": Row("tools bare pure hosted host common", comfyui="late"),
    "bare": Row("bare", libraries=()),
    "training": Row("training registry pure hosted host common bare", comfyui="late"),
    "drawing": Row(ANYTHING, comfyui=True),
    "bench": Row(ANYTHING, comfyui=True),
    "tests": Row(ANYTHING, comfyui=True),
    "scripts": Row(ANYTHING, comfyui=True),
}
"""`pure` and `hosted` are the files of a method's folder. `bare` runs on a Python with nothing
installed: `tools/comfyui/` and `tools/package.py`, with which the set-up begins. `checked` is
`tools/check/hosted.py`, which computes in a process of its own, inside ComfyUI."""
ALLOWED = {
    ("common/jpeg.py", "PIL"): "writes a real JPEG file; ComfyUI ships Pillow",
    ("common/lpips.py", "torchmetrics"): "optional, and its absence is a sentence",
    ("common/dists.py", "torchmetrics"): "as for LPIPS",
    ("common/no_reference.py", "piq"): "as for LPIPS",
    ("tools/comfyui/client.py", "aiohttp"): "for progress only; without it there is none",
    ("tools/comfyui/inprocess.py", "comfy"): "is what imports ComfyUI, once somebody asks for it",
    ("tools/comfyui/facts.py", "comfy"): "asks ComfyUI what it would do, in a process of its own",
}
"""(file, library): why it may, inside a function, in spite of its row."""


def part_of(name: str) -> str:
    """The row of a module: `pasd.keys` is `pure`, `tools.comfyui.find` is `bare`."""
    first, _, rest = name.partition(".")
    second = rest.partition(".")[0]
    if first in METHODS:
        return "hosted" if second in HOSTED else "pure"
    if first == "tools" and second in ("comfyui", "package"):
        return "bare"
    return "checked" if name == "tools.check.hosted" else first


def wrong(module: str, imported: Import) -> str | None:
    """What is wrong with an import, in words; None: nothing."""
    row = TABLE[part_of(module)]
    if imported.ours:
        part, allowed = part_of(imported.name), set(row.ours.split())
        if imported.top == module.partition(".")[0] and part in ("pure", "hosted"):
            allowed |= {name.removeprefix("own-") for name in allowed}
        if imported.top in allowed or part in allowed or ANYTHING in allowed:
            return None
        return f"imports {imported.name}; {part_of(module)} may import {row.ours} of ours"
    top = imported.top
    if top in COMFYUI or top.startswith("comfy"):
        if row.comfyui is True or (row.comfyui == "late" and imported.late):
            return None
        inside = " outside a function" if row.comfyui else ""
        return f"imports ComfyUI's {imported.name}{inside}"
    if row.libraries is None or top in sys.stdlib_module_names:
        return None
    if top not in row.libraries:
        return f"imports {imported.name}; {part_of(module)} stands on {row.libraries or 'nothing'}"
    if top in HEAVY and not imported.late:
        return f"imports {imported.name}, which is slow, outside a function"
    return None


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts)


def violations(root: Path) -> Iterator[str]:
    """Every import below `root` that the table does not allow, as a sentence."""
    for path in python_files(root):
        file = path.relative_to(root).as_posix()
        module = _module(path.relative_to(root))
        if part_of(module) not in TABLE:
            yield f"{file}: {module.partition('.')[0]} has no row in TABLE"
            continue
        for found in read_imports(path, root):
            problem = wrong(module, found)
            if problem and not (found.late and (file, found.top) in ALLOWED):
                yield f"{file}:{found.line} {problem}"


def test_every_import_is_in_the_table() -> None:
    found = "\n".join(violations(ROOT))
    assert not found, found


def test_every_method_has_its_folder_and_every_row_its_files() -> None:
    parts = {part_of(_module(path.relative_to(ROOT))) for path in python_files(ROOT)}
    assert parts == set(TABLE)
    assert all((ROOT / name / "__init__.py").is_file() for name in METHODS)


def test_every_exception_is_needed() -> None:
    for file, library in ALLOWED:
        assert library in {found.top for found in read_imports(ROOT / file, ROOT)}, file


def tree(root: Path, file: str, source: str) -> Path:
    """A house of one file."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, "utf-8")
    return root


FORBIDDEN = [
    ("pasd/keys.py", "import comfy.sd", "ComfyUI's comfy.sd"),
    ("pasd/keys.py", "from folder_paths import base_path", "ComfyUI's folder_paths"),
    ("pasd/keys.py", "def f():\n    import nodes", "ComfyUI's nodes"),
    ("pasd/__init__.py", "from comfy_api.latest import io", "ComfyUI's comfy_api"),
    ("seesr/recipe.py", "from comfy_execution import graph_utils", "ComfyUI's comfy_execution"),
    (
        "pasd/keys.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import comfy.sd",
        "ComfyUI's comfy.sd",
    ),
    ("pasd/keys.py", "try:\n    import latent_preview\nexcept ImportError: ...", "latent_preview"),
    ("pasd/keys.py", "from importlib import import_module\nimport_module('comfy.sd')", "comfy.sd"),
    ("pasd/keys.py", "import importlib\nx = importlib.import_module('server')", "server"),
    ("pasd/keys.py", "from importlib import import_module\nimport_module('..host', 'x')", "host"),
    ("pasd/keys.py", "from ..host import view", "imports host.view"),
    ("pasd/keys.py", "from ..host.view import Tile", "imports host.view"),
    ("pasd/keys.py", "from . import attach", "imports pasd.attach"),
    ("pasd/keys.py", "from .attach import apply", "imports pasd.attach"),
    ("pasd/start.py", "from .trainable import PASDTrainable", "imports pasd.trainable"),
    ("pasd/objective.py", "from ..host import trainable", "imports host.trainable"),
    ("pasd/keys.py", "from ..seesr.config import SD2", "imports seesr.config"),
    ("pasd/keys.py", "from ..tagger.config import RAM", "imports tagger.config"),
    ("pasd/__init__.py", "from .load import load_pasd", "imports pasd.load"),
    ("pasd/attach.py", "from ..seesr.attach import apply", "imports seesr.attach"),
    ("pasd/attach.py", "from ..seesr import config", "imports seesr.config"),
    ("pasd/load.py", "from ..registry import METHODS", "imports registry"),
    ("pasd/load.py", "from ..nodes.pasd import PASDLoader", "imports nodes.pasd"),
    ("host/sampling.py", "from ..pasd import sampling", "imports pasd.sampling"),
    ("host/sampling.py", "from ..registry import METHODS", "imports registry"),
    ("common/color.py", "from ..host import view", "imports host.view"),
    ("common/color.py", "from .. import host", "imports host"),
    ("common/color.py", "import cv2", "imports cv2"),
    ("common/color.py", "import kornia.color", "slow"),
    ("common/jpeg.py", "from PIL import Image", "imports PIL"),
    ("registry.py", "from .pasd.attach import apply", "imports pasd.attach"),
    ("registry.py", "from .host import sampling", "imports host.sampling"),
    ("registry.py", "import folder_paths", "ComfyUI's folder_paths"),
    ("nodes/pasd.py", "from ..tools.files import sha256", "imports tools.files"),
    ("nodes/pasd.py", "from ..drawing import graph", "imports drawing.graph"),
    ("tools/weights/known.py", "from ...pasd.load import load", "imports pasd.load"),
    ("tools/weights/known.py", "from ...host.folders import find", "imports host.folders"),
    ("tools/weights/known.py", "from ...drawing.files import FILES", "imports drawing.files"),
    ("tools/weights/known.py", "def f():\n    import folder_paths", "ComfyUI's folder_paths"),
    ("tools/folder/run.py", "from restoration.scripts import demo", "imports scripts.demo"),
    ("tools/comfyui/find.py", "import numpy", "imports numpy"),
    ("tools/comfyui/find.py", "from ..files import sha256", "imports tools.files"),
    ("tools/comfyui/client.py", "import aiohttp", "imports aiohttp"),
    ("tools/package.py", "import torch", "imports torch"),
    ("training/train.py", "import comfy.sd", "outside a function"),
    ("training/train.py", "from ..bench import pasd", "imports bench.pasd"),
    ("training/train.py", "from ..tests.host import networks", "imports tests.host"),
    ("__init__.py", "import comfy_api.latest", "outside a function"),
    ("__init__.py", "def f():\n    from .tools import files", "imports tools.files"),
    ("toys/keys.py", "import math", "toys has no row"),
    ("setup.py", "import math", "setup has no row"),
]


@pytest.mark.parametrize(("file", "source", "words"), FORBIDDEN)
def test_a_forbidden_import_is_told(tmp_path, file, source, words) -> None:
    (found,) = violations(tree(tmp_path, file, source))
    assert found.startswith(file) and words in found


PERMITTED = [
    ("pasd/keys.py", "from .config import A\nfrom ..common import unet\nimport torch, math"),
    ("pasd/keys.py", "def f():\n    import scipy.ndimage"),
    (
        "pasd/attach.py",
        "from . import keys, networks\nfrom ..tagger.run import tag\nimport comfy.sd",
    ),
    ("pasd/attach.py", "from ..host.branch import apply_branch"),
    ("registry.py", "from .common.method import Method\nfrom .pasd import METHOD"),
    ("nodes/pasd.py", "from ..registry import METHODS\nfrom ..pasd.attach import apply"),
    ("tools/list.py", "from ..registry import METHODS\nfrom ..pasd import keys\nimport yaml"),
    ("tools/list.py", "from .comfyui import find"),
    ("tools/comfyui/client.py", "def f():\n    import aiohttp"),
    ("training/train.py", "from ..pasd.load import load\ndef f():\n    import comfy.sd"),
    ("bench/pasd.py", "from restoration.tests.host import networks\nimport comfy.sd"),
    ("common/jpeg.py", "def f():\n    from PIL import Image"),
]


@pytest.mark.parametrize(("file", "source"), PERMITTED)
def test_a_permitted_import_is_not(tmp_path, file, source) -> None:
    assert not list(violations(tree(tmp_path, file, source)))


def test_what_a_run_leaves_in_the_tree_is_no_part_of_it(tmp_path) -> None:
    for folder in (".venv", *LEFT):
        tree(tmp_path, f"{folder}/a.py", "import comfy")
    assert not list(violations(tmp_path))


@pytest.mark.parametrize("path", sorted((ROOT / "nodes").glob("[!_]*.py")), ids=lambda p: p.name)
def test_node_files_end_in_their_list(path: Path) -> None:
    last = ast.parse(path.read_text("utf-8")).body[-1]
    target = last.target if isinstance(last, ast.AnnAssign) else last.targets[0]  # type: ignore
    assert target.id == "NODES"  # type: ignore
