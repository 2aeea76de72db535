"""Which tests look at a changed file first: those that mirror its path, and those that import it.

A hint for the minutes between two runs of everything, not a proof: what a module does to those that
use it, their own tests may notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from .imports import python_files, read_imports


def mirrored(changed: Iterable[str], root: Path) -> dict[str, list[str]]:
    """Changed file -> the test files to run, both below `root` with slashes. A file need not be
    there any more; what nothing looks at has an empty list."""
    imported, nodes = _imported(root / "tests", root), _imported(root / "nodes", root)
    found = {}
    for file in changed:
        # Methods and mechanisms are tested through their nodes; what all share would mean all tests.
        through = {node for node, modules in nodes.items() if file in modules}
        through = set() if file.startswith(("common/", "nodes/")) else through
        tests = (_tests_of(each, imported) for each in (file, *through))
        found[file] = sorted(set().union(*tests))
    return found


def _tests_of(file: str, imported: dict[str, set[str]]) -> set[str]:
    tests = {name for name in imported if Path(name).name.startswith("test_")}
    if file in tests:
        return {file}
    importers = {name for name, modules in imported.items() if file in modules}
    found = importers & tests
    for helper in importers - tests:
        found |= _tests_of(helper, imported)
    if file.startswith(
        "tests/"
    ):  # conftest.py, golden cases, runners: read by what lies beside them
        return found or _nearest(Path(file).parent, tests)
    return found | set(_mirroring(Path(file), tests))


def _mirroring(file: Path, tests: set[str]) -> Iterator[str]:
    """`pasd/keys.py` -> `tests/pasd/test_keys.py`; what is not Python -> the tests of its folder."""
    mirror = Path("tests") / file.parent
    if file.suffix == ".py":
        own = mirror / f"test_{file.stem}.py"
        yield from {own.as_posix()} & tests
    elif file.parts[:-1]:
        whole = f"tests/test_{file.parts[0]}.py"
        yield from {whole} & tests or _nearest(mirror, tests)


def _nearest(folder: Path, tests: set[str]) -> set[str]:
    """The tests below the first folder, from here up, that has any; never all of them."""
    while folder.parts[1:]:
        below = {name for name in tests if name.startswith(f"{folder.as_posix()}/")}
        if below:
            return below
        folder = folder.parent
    return {name for name in tests if Path(name).parent == folder}


def _imported(folder: Path, root: Path) -> dict[str, set[str]]:
    """Each Python file below `folder` -> the files of ours that it imports."""
    found = {}
    for path in python_files(folder):
        names = (each.name for each in read_imports(path, root) if each.ours)
        files = {file for name in names if (file := _file(name, root))}
        found[path.relative_to(root).as_posix()] = files
    return found


def _file(name: str, root: Path) -> str | None:
    """`common.images.to_bchw` -> `common/images.py`."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        stem = "/".join(parts[:end])
        for file in (f"{stem}.py", f"{stem}/__init__.py"):
            if (root / file).is_file():
                return file
    return None
