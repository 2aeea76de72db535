"""What a Python file imports: read from its text, so that nothing has to be importable."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "restoration"
"""What `tools/package.py` calls the pack."""


@dataclass(frozen=True)
class Import:
    """One name that a file imports."""

    name: str
    """Dotted; of ours it counts from the root: `pasd.keys`, or `pasd.keys.PREFIX` for what is in it."""
    ours: bool
    late: bool
    """Inside a function, or only for the type checker: not when the module is imported."""
    line: int

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


def read_imports(path: Path, root: Path) -> list[Import]:
    """Everything that the file at `path` imports, wherever in it; the pack lies at `root`."""
    return list(_read(path.read_text("utf-8"), path.relative_to(root).parent.parts))


@functools.cache  # several tests ask for the whole tree
def _read(text: str, folder: tuple[str, ...]) -> tuple[Import, ...]:
    reader = _Reader(folder)
    reader.visit(ast.parse(text))
    return tuple(reader.found)


def _last_name(node: ast.expr) -> str:
    """Of a dotted name; empty for any other expression."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


class _Reader(ast.NodeVisitor):
    def __init__(self, folder: tuple[str, ...]) -> None:
        self.folder = folder
        self.late = False
        self.found: list[Import] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._later(node.body)
        for part in (*node.decorator_list, node.args):
            self.visit(part)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]  # noqa: N815

    def visit_If(self, node: ast.If) -> None:
        if _last_name(node.test) == "TYPE_CHECKING":
            self._later(node.body)
            for part in node.orelse:
                self.visit(part)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._absolute(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        inside = "" if node.module is None else f"{node.module}."
        for alias in node.names:
            if node.level:
                self._relative(node.level, inside + alias.name, node.lineno)
            else:
                self._absolute(inside + alias.name, node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        """`import_module("comfy.sd")` is an import like any other."""
        if _last_name(node.func) in ("import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                bare = name.value.lstrip(".")
                if level := len(name.value) - len(bare):
                    self._relative(level, bare, node.lineno)
                else:
                    self._absolute(bare, node.lineno)
        self.generic_visit(node)

    def _later(self, body: list[ast.stmt]) -> None:
        before, self.late = self.late, True
        for part in body:
            self.visit(part)
        self.late = before

    def _absolute(self, name: str, line: int) -> None:
        ours = name == PACKAGE or name.startswith(f"{PACKAGE}.")
        name = name[len(PACKAGE) + 1 :] if ours else name
        self.found.append(Import(name, ours, self.late, line))

    def _relative(self, level: int, name: str, line: int) -> None:
        base = self.folder[: len(self.folder) - level + 1]
        self.found.append(Import(".".join([*base, name]), True, self.late, line))


def python_files(root: Path) -> Iterator[Path]:
    """Every Python file of the tree, without what a run or an installation leaves in it."""
    for entry in sorted(root.iterdir()):
        if entry.suffix == ".py":
            yield entry
        elif entry.is_dir() and not entry.name.startswith(".") and entry.name not in LEFT:
            yield from sorted(entry.rglob("*.py"))


LEFT = ("output", "build", "dist", "node_modules", "__pycache__")
