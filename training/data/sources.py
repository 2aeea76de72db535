"""What lies in folders and tar shards: pictures with their partners and texts, found by name.

A shard (WebDataset) is a tar file in which files of one name stand together: `a.jpg`, `a.txt`. It is
read once from end to end, headers only; from then on every picture is read where it lies, so that
any picture can come at any step and any number of processes sees the same order.
"""

from __future__ import annotations

import glob
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..config import Data
from ..errors import TrainingError

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
TEXTS = (".txt", ".text", ".caption")
LONG, LQ = ".long", ".lq"
"""NAME.long.txt and NAME.lq.png: a second text, and in shards the damaged partner."""


@dataclass(frozen=True)
class Blob:
    """Bytes on disk: a whole file, or a part of a shard."""

    file: str
    offset: int = 0
    size: int = -1
    suffix: str = ""
    """Without the dot, small."""

    def read(self) -> bytes:
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True)
class Item:
    """One picture to learn from."""

    name: str
    """Below its folder, or in its shard, without the suffix."""
    picture: Blob
    lq: Blob | None = None
    text: Blob | None = None
    long_text: Blob | None = None


@dataclass
class Survey:
    """What was found, and what has no partner."""

    items: list[Item] = field(default_factory=list)
    lone_texts: list[str] = field(default_factory=list)
    """Texts without a picture."""
    lone_lq: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """A sentence for every shard that cannot be read to its end."""

    def without(self, partner: str) -> list[str]:
        """Names of the pictures that lack one: `text` or `lq`."""
        return [item.name for item in self.items if getattr(item, partner) is None]


def survey(data: Data) -> Survey:
    """All pictures in the order of their names. Raises TrainingError where a place is missing."""
    if data.lq and len(data.lq) != len(data.pictures):
        raise TrainingError(
            f"data.lq names {len(data.lq)} folders and data.pictures {len(data.pictures)}: every "
            "folder of pictures needs its own folder of damaged partners."
        )
    found = Survey()
    for number, place in enumerate(data.pictures):
        if Path(place).is_dir():
            _add_folder(found, Path(place), Path(data.lq[number]) if data.lq else None, data.texts)
        else:
            for shard in _shards(place):
                _add_shard(found, shard)
    return found


def training_items(data: Data, needs_lq: bool) -> list[Item]:
    """The pictures of a run. TrainingError in one sentence for what would go wrong later.

    needs_lq: that a damaged partner must lie on disk, because none is made.
    """
    if not data.pictures:
        raise TrainingError("data.pictures is empty: name folders of pictures or tar shards.")
    found = survey(data)
    if found.broken:
        raise TrainingError(found.broken[0])
    if not found.items:
        raise TrainingError(
            f"No pictures in {', '.join(data.pictures)}: expected {' '.join(PICTURES)}."
        )
    checks = ("text", data.text == "file"), ("lq", needs_lq or bool(data.lq))
    for partner, needed in checks:
        if needed and (lacking := found.without(partner)):
            raise TrainingError(_lacking(partner, lacking, len(found.items)))
    return found.items


def _lacking(partner: str, names: Sequence[str], count: int) -> str:
    what, advice = {
        "text": (
            "no text beside them",
            'write NAME.txt (`data caption` and `data tag` do), or set data.text = "none"',
        ),
        "lq": ("no damaged partner of the same name", "add it, or leave data.lq empty"),
    }[partner]
    return f"{len(names)} of {count} pictures have {what} (the first is {names[0]}): {advice}."


# -- folders ---------------------------------------------------------------------------------------


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise TrainingError(f"There is no folder {folder}.")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _by_name(folder: Path, suffixes: Iterable[str]) -> dict[str, Path]:
    """Files below a folder by their path without the suffix, with slashes."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in _files(folder)
        if path.suffix.lower() in suffixes
    }


def _whole(path: Path) -> Blob:
    return Blob(str(path), suffix=path.suffix[1:].lower())


def _add_folder(found: Survey, folder: Path, lq: Path | None, texts: str) -> None:
    pictures = [path for path in _files(folder) if path.suffix.lower() in PICTURES]
    partners = _by_name(lq, PICTURES) if lq else {}
    words = _by_name(Path(texts) if texts else folder, TEXTS)
    names = set()
    for path in pictures:
        name = path.relative_to(folder).with_suffix("").as_posix()
        names.add(name)
        blobs = (partners.get(name), words.get(name), words.get(name + LONG))
        found.items.append(Item(name, _whole(path), *(each and _whole(each) for each in blobs)))
    found.lone_texts += [name for name in words if name.removesuffix(LONG) not in names]
    found.lone_lq += [name for name in partners if name not in names]


# -- shards ----------------------------------------------------------------------------------------


def _shards(pattern: str) -> list[str]:
    """The tar files that a name, a glob or braces mean."""
    from webdataset.shardlists import expand_urls

    paths = [path for each in expand_urls(pattern) for path in sorted(glob.glob(each)) or [each]]
    for path in paths:
        if not Path(path).is_file():
            raise TrainingError(
                f"{path} in data.pictures is neither a folder nor a tar shard on this machine."
            )
    return paths


def _members(shard: str) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(shard, "r:") as file:  # not compressed: parts are read where they lie
        yield from (member for member in file if member.isreg())
        # A file that breaks off between two members looks whole without its end.
        file.fileobj.seek(file.offset)  # type: ignore[union-attr]
        if not file.fileobj.read(tarfile.BLOCKSIZE):  # type: ignore[union-attr]
            raise tarfile.ReadError("unexpected end of data")


def _add_shard(found: Survey, shard: str) -> None:
    from webdataset.tariterators import base_plus_ext

    parts: dict[str, dict[str, Blob]] = {}
    try:
        for member in _members(shard):
            name, suffix = base_plus_ext(member.name)
            if name is None:
                continue
            suffix = (suffix or "").lower()
            kind = suffix.rpartition(".")[2]
            blob = Blob(shard, member.offset_data, member.size, kind)
            parts.setdefault(name, {})[f".{suffix}"] = blob
    except (tarfile.TarError, EOFError, OSError) as error:
        found.broken.append(
            f"The shard {shard} cannot be read beyond its {len(parts)}. sample ({error}): copy it "
            "again, or leave it out."
        )
    for name, files in parts.items():

        def first(suffixes: Iterable[str], files: dict[str, Blob] = files) -> Blob | None:
            return next((files[each] for each in suffixes if each in files), None)

        if picture := first(PICTURES):
            lq = first(LQ + each for each in PICTURES)
            text, long_text = first(TEXTS), first(LONG + each for each in TEXTS)
            found.items.append(Item(name, picture, lq, text, long_text))
        elif first(TEXTS):
            found.lone_texts.append(name)
