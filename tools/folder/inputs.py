"""Which pictures: folders, patterns and files of the command line, and what is passed over."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import UsageError
from .manifest import NAME
from .pictures import EXTENSIONS

RAW = re.compile(
    r"\.(3fr|arw|cr[23w]|dcr|dng|erf|iiq|kdc|mef|mos|mrw|nef|nrw|orf|pef|ra[fw]|rw[2l]|sr[2fw]|x3f)",
    re.I,
)
"""Pillow takes some of them for TIFFs, and their thumbnail for the picture."""

OTHER_KIND = "of a kind that Pillow does not read here"
RAW_KIND = "raw files of a camera, to be developed to TIFF or PNG first"
HIDDEN = "hidden"
RESULTS = "results of earlier runs"
OUTPUT = "the output folder"
DEEPER = "folders in folders (--recursive looks into them)"
NO_FILE = "links to nothing or other things that are no files"
CLOSED = "folders that cannot be read"
MATCHED = "folders that match a pattern (name them by themselves)"
SHOWN = 5
"""Names of each kind that are said."""


@dataclass
class Found:
    """What the command line names."""

    pictures: dict[Path, Path] = field(default_factory=dict)
    """Picture -> its name below the output folder, with its extension."""
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    """Why -> names."""

    def pass_over(self, why: str, name: object) -> None:
        self.passed_over.setdefault(why, []).append(str(name))

    def take(self, path: Path, name: Path) -> None:
        """Adds a picture, unless it is there under the same path."""
        if os.path.abspath(path) not in self._paths:
            self._paths.add(os.path.abspath(path))
            self.pictures[path] = name

    def sort_out(self, path: Path, name: Path) -> None:
        """Takes a file for a picture or passes it over, by its extension."""
        if RAW.fullmatch(path.suffix):
            self.pass_over(RAW_KIND, name)
        elif path.suffix.lower() not in EXTENSIONS:
            self.pass_over(OTHER_KIND, name)
        else:
            self.take(path, name)

    def __post_init__(self) -> None:
        self._paths: set[str] = set()

    def __str__(self) -> str:
        """What was passed over, as part of a sentence; empty: nothing."""
        parts = []
        for why, names in self.passed_over.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{len(names)} {why}: {', '.join(names[:SHOWN])}{more}")
        return "; ".join(parts)


def find_inputs(
    arguments: Sequence[str],
    recursive: bool,
    output: Path,
    results: Collection[str] = (),
    needed: bool = True,
) -> Found:
    """The pictures that the command line names: files as they are, of folders and of what matches
    patterns those that Pillow reads.

    results: files of the output folder that are no photos, with `/`. Names are relative to the
    folder, or to what all files and matches of patterns have in common. A path that is there is
    never taken for a pattern. needed: that there is none is an error, too. Raises UsageError.
    """
    found, out = Found(), os.path.realpath(output)
    loose: dict[Path, bool] = {}  # whether it was named, not matched
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            for each, name in _files(path, recursive, out, results, found):
                found.sort_out(each, name)
        elif path.is_file():
            loose[path] = True
        elif matches := _matches(argument):
            for match in matches:
                if match.is_file():
                    loose.setdefault(match, False)
                elif "**" not in argument:
                    found.pass_over(MATCHED, match)
        else:
            raise UsageError(f"{argument} is no folder, no file, and matches none.")
    for path, name in _named(loose):
        if loose[path] and not RAW.fullmatch(path.suffix):
            found.take(path, name)
        elif not loose[path] and _in_output(path, out) in results:
            found.pass_over(RESULTS, name)
        else:
            found.sort_out(path, name)
    if needed and not found.pictures:
        passed = f" Passed over: {found}." if found.passed_over else ""
        raise UsageError(
            f"No pictures in {', '.join(arguments)} (--recursive looks deeper).{passed}"
        )
    return found


def _matches(pattern: str) -> list[Path]:
    """The files that match a pattern; brackets in the folders that lead to it, or in all of it where else
    nothing matches, stand for themselves."""
    parts = Path(pattern).parts
    literal = 0
    while literal < len(parts) and Path(*parts[: literal + 1]).exists():
        literal += 1
    head = glob.escape(str(Path(*parts[:literal]))) if literal else ""
    forms = (os.path.join(head, *parts[literal:]), pattern.replace("[", "[[]"))
    hits = next(filter(None, (glob.glob(form, recursive=True) for form in forms)), [])
    return sorted(map(Path, hits))


def _in_output(path: Path, out: str) -> str:
    """A file's name in the output folder, with `/`; empty: it is not in there."""
    real = Path(os.path.realpath(path.parent), path.name)
    return real.relative_to(out).as_posix() if real.is_relative_to(out) else ""


def _named(paths: Collection[Path]) -> Iterator[tuple[Path, Path]]:
    absolute = {path: Path(os.path.abspath(path)) for path in paths}
    if not absolute:
        return
    try:
        common = os.path.commonpath([path.parent for path in absolute.values()])
    except ValueError as error:  # two drives of Windows
        raise UsageError(f"These files have no folder in common ({error}).") from error
    yield from ((path, each.relative_to(common)) for path, each in absolute.items())


def _files(
    top: Path, recursive: bool, out: str, results: Collection[str], found: Found
) -> Iterator[tuple[Path, Path]]:
    """(file, its name below the folder), sorted, without what is passed over for where it is."""

    def below(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
        real = os.path.realpath(folder)
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            if not above:
                raise
            found.pass_over(CLOSED, folder.relative_to(top))
            return
        for path in entries:
            name = path.relative_to(top)
            is_folder = path.is_dir()
            if _in_output(path, out) in results:
                found.pass_over(RESULTS, name)
            elif path.name.startswith((NAME, f".{NAME}")):
                pass  # the manifest and its lock are nobody's photos
            elif path.name.startswith("."):
                # Beside every photo on a foreign disk, macOS leaves ._photo.jpg, which is none.
                found.pass_over(HIDDEN, name)
            elif is_folder and os.path.realpath(path) == out:
                found.pass_over(OUTPUT, name)
            elif is_folder and not recursive:
                found.pass_over(DEEPER, name)
            elif is_folder:
                if os.path.realpath(path) not in (*above, real):  # links may lead in a circle
                    yield from below(path, (*above, real))
            elif path.is_file():
                yield path
            else:
                found.pass_over(NO_FILE, name)

    yield from sorted((path, path.relative_to(top)) for path in below(top, ()))
