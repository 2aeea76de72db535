"""The file form of golden cases: JSON with one row of a table a line, and `record`.

A case is read by people and by diffs, and nine tenths of it are tables of shapes: a list of numbers
takes one line, everything else is indented by one. As a command it rewrites files in that form:
`.venv/bin/python tests/golden/write.py FILE.json ...`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, (int, float)) for each in value)


def _is_row(value: Any) -> bool:
    """Whether a list stays on one line: numbers, or a manifest's pair of a shape and its kind."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], str):
        return _numbers(value[0])
    return _numbers(value)


def _pieces(value: Any, indent: int) -> Iterator[str]:
    if not isinstance(value, (dict, list)) or not value or _is_row(value):
        yield json.dumps(value, ensure_ascii=False)
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield opening
    entries = value.items() if isinstance(value, dict) else ((None, each) for each in value)
    for number, (key, each) in enumerate(entries):
        name = "" if key is None else f"{json.dumps(key, ensure_ascii=False)}: "
        yield f"{',' if number else ''}\n{' ' * (indent + 1)}{name}"
        yield from _pieces(each, indent + 1)
    yield f"\n{' ' * indent}{closing}"


def form(data: Any) -> str:
    """A case's JSON as text."""
    return "".join(_pieces(data, 0)) + "\n"


def rewrite(path: Path) -> bool:
    """Puts a file into the form; whether anything changed. The contents stay."""
    before = path.read_text(encoding="utf-8")
    after = form(json.loads(before))
    if after == before:
        return False
    path.write_text(after, encoding="utf-8")
    return True


Recorded = Mapping[str, "tuple[Tensor, str]"]
"""{tensor name: (tensor, what it is, with its layout and range)}"""

REQUIRED = ("method", "module", "config", "seed", "parameters", "call", "tolerance")


def record(path: Path, case: Mapping[str, Any], inputs: Recorded, outputs: Recorded) -> Path:
    """Writes one case: `path` (a .json) and the safetensors file beside it.

    case: the fields of README.md's table except `inputs` and `outputs`, which come from the
    tensors; `parameters` may hold tensors, then their shapes are taken. Raises ValueError for a
    field or a description that is missing, and for a name that is both input and output.
    """
    from safetensors.torch import save_file

    missing = [name for name in REQUIRED if name not in case]
    if missing:
        raise ValueError(f"{path.name} lacks {', '.join(missing)}: see the table in README.md.")
    if both := sorted(inputs.keys() & outputs.keys()):
        raise ValueError(f"{path.name}: {', '.join(both)} cannot be both input and output.")
    recorded = {**inputs, **outputs}
    if undescribed := [name for name, (_, text) in recorded.items() if not text]:
        raise ValueError(f"{path.name}: say what {', '.join(undescribed)} is (layout, range).")
    shapes = {key: list(getattr(p, "shape", p)) for key, p in case["parameters"].items()}
    described = {
        **case,
        "parameters": shapes,
        "buffers": list(case.get("buffers", [])),
        "inputs": {name: text for name, (_, text) in inputs.items()},
        "outputs": {name: text for name, (_, text) in outputs.items()},
        "notes": case.get("notes", ""),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, (tensor, _) in recorded.items()}
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()}, path.with_suffix(".safetensors")
    )
    path.write_text(form(described), encoding="utf-8")
    return path


if __name__ == "__main__":
    for name in sys.argv[1:]:
        if rewrite(Path(name)):
            sys.stdout.write(f"{name}\n")
