"""Which published files a name stands for: a shipped workflow, a method, a file, a release's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from ... import registry
from ...common.method import WeightFile
from ...common.state_dict import CheckpointError
from ..shipped import Shipped, find_shipped, like, plain


@dataclass(frozen=True)
class Choice:
    """What one name stands for."""

    title: str
    """As it is told."""
    files: tuple[WeightFile, ...]
    more: str = ""
    """A sentence on what the name could also have meant; empty: that is all."""

    @property
    def total(self) -> str:
        """How much that is together."""
        return gigabytes(sum(file.size for file in self.files))


def gigabytes(size: float) -> str:
    """Bytes in words, as the table of files tells them."""
    if size >= 1e8:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else "< 1 MB"


def counted(number: int) -> str:
    """So many files, in words."""
    return f"{number} file{'' if number == 1 else 's'}"


def files_of(workflow: Shipped) -> tuple[WeightFile, ...]:
    """The published files of a shipped workflow, in the order of the table."""
    return tuple(file for name, file in registry.files().items() if name in workflow.models)


def usual_files() -> dict[str, tuple[WeightFile, ...]]:
    """Method -> what its usual workflow needs."""
    table = registry.files()
    return {
        method.name: tuple(table[name] for name in method.usual) or method.files
        for method in registry.methods()
    }


def chosen(name: str) -> Choice:
    """What a name stands for. Raises CheckpointError with the names that are like it."""
    if workflow := find_shipped(name):
        return Choice(workflow.title, files_of(workflow))
    for method in registry.methods():
        if plain(name) in (plain(method.name), plain(method.title)):
            usual = usual_files()[method.name]
            others = [file for file in method.files if file not in usual]
            heads = dict.fromkeys(PurePosixPath(file.name).parts[0] for file in others)
            more = f"Not among them: {', '.join(heads)}. Name them, or a workflow." if heads else ""
            return Choice(method.title, usual, more)
    if files := _files(name, registry.files()):
        return Choice(name, files)
    hint = like(name, *usual_files(), *registry.files())
    raise CheckpointError(f"{name} is no workflow, method or file of the pack. {hint}")


def _files(name: str, table: Mapping[str, WeightFile]) -> tuple[WeightFile, ...]:
    """The files of a name: one, or all in a folder. A name without its folder will do where only one
    has it. Raises CheckpointError where several have it."""
    wanted = PurePosixPath(name.replace("\\", "/"))
    if file := table.get(str(wanted)):
        return (file,)
    inside = tuple(f for key, f in table.items() if wanted in PurePosixPath(key).parents)
    ends = [key for key in table if PurePosixPath(key).parts[-len(wanted.parts) :] == wanted.parts]
    if len(ends) > 1 and not inside:
        raise CheckpointError(f"{name} is the name of {len(ends)} files: {', '.join(ends)}.")
    return inside or tuple(table[key] for key in ends)
