"""Python 3.10 is the oldest: no newer syntax and nothing newer of the standard library, tests too.

`ruff` and `pyright` are told the same in pyproject.toml; here it is held without them, and they are
held to it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from restoration.tests.imports import python_files

ROOT = Path(__file__).parent.parent
OLDEST = (3, 10)
NEWER = {
    "asyncio": "TaskGroup timeout timeout_at Runner Barrier eager_task_factory",
    "collections.abc": "Buffer",
    "contextlib": "chdir",
    "copy": "replace",
    "datetime": "UTC",
    "enum": "StrEnum ReprEnum FlagBoundary EnumCheck verify member nonmember property global_enum",
    "functools": "Placeholder",
    "hashlib": "file_digest",
    "inspect": "getmembers_static BufferFlags",
    "itertools": "batched",
    "logging": "getLevelNamesMapping getHandlerByName getHandlerNames",
    "math": "cbrt exp2 sumprod fma",
    "operator": "call is_none is_not_none",
    "os": "process_cpu_count",
    "statistics": "kde kde_random",
    "string.templatelib": "*",
    "sys": "exception monitoring",
    "tomllib": "*",
    "types": "get_original_bases CapsuleType",
    "typing": "Self Never LiteralString Required NotRequired Unpack TypeVarTuple assert_never "
    "assert_type reveal_type dataclass_transform get_overloads override TypeAliasType ReadOnly "
    "TypeIs NoDefault get_protocol_members is_protocol",
    "warnings": "deprecated",
}
"""Module -> names that came after 3.10; `*`: the module itself."""
BUILTINS = ("ExceptionGroup", "BaseExceptionGroup", "PythonFinalizationError")


def newer(source: str) -> Iterator[str]:
    """What in a source Python 3.10 does not know, with the line."""
    try:
        tree = ast.parse(source, feature_version=OLDEST)
    except SyntaxError as error:
        yield f"{error.lineno}: {error.msg}"
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"{node.lineno}: {a.name}" for a in node.names if NEWER.get(a.name) == "*")
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = NEWER.get(node.module or "", "").split()
            found = (a.name for a in node.names if a.name in names or names == ["*"])
            yield from (f"{node.lineno}: {node.module}.{name}" for name in found)
        elif isinstance(node, ast.Attribute):
            module = ast.unparse(node.value)
            if node.attr in NEWER.get(module, "").split():
                yield f"{node.lineno}: {module}.{node.attr}"
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            yield f"{node.lineno}: {node.id}"


def test_every_file_is_python_3_10() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{what}"
        for path in python_files(ROOT)
        for what in newer(path.read_text("utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import tomllib",
        "from typing import Any, Self",
        "import typing\nx: typing.Self",
        "from datetime import UTC",
        "import hashlib\nhashlib.file_digest",
        "try: ...\nexcept* ValueError: ...",
        "raise ExceptionGroup('', [])",
        "class A:\n    from enum import StrEnum",
    ],
)
def test_what_is_newer_is_found(source) -> None:
    assert list(newer(source))


def test_what_is_not_is_left_alone() -> None:
    source = "from datetime import datetime, timezone\nmatch 1:\n    case 1: ...\nself.timeout = 1"
    assert not list(newer(source))


def test_linters_and_the_package_name_the_same_version() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")  # tomllib came with 3.11
    for line in (
        'requires-python = ">=3.10"',
        'target-version = "py310"',
        'pythonVersion = "3.10"',
    ):
        assert line in text
