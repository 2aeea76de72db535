"""EXIF: which way up a picture is, and what of it is still true of a result."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.ExifTags import GPSTAGS, IFD, TAGS, Base

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Brings a picture of this orientation upright."""
DESCRIPTIVE = (
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.Copyright,
)
"""What a TIFF says of the picture; its other tags say how this file stores it."""
UNTRUE = (Base.Orientation, Base.ImageWidth, Base.ImageLength)
"""The result is upright and has a size of its own."""
TABLES = (None, IFD.Exif, IFD.GPSInfo, IFD.Interop)
"""Where tags are, None for the main table; others hold the thumbnail, or are the maker's."""
POINTERS = (IFD.Exif, IFD.GPSInfo, IFD.Interop)


class _Text(str):
    """Pillow reads text as Latin-1 and writes it as ASCII with question marks; so all of it stays,
    UTF-8 as well."""

    def encode(self, encoding: str = "", errors: str = "") -> bytes:
        return super().encode("latin-1")


@dataclass(frozen=True)
class Carried:
    """What of a picture's EXIF a result may say."""

    data: bytes | None
    notes: tuple[str, ...]
    """What was lost and why; empty where Pillow reads, turns and writes all of it."""


def turn(image: Image.Image) -> Image.Transpose | None:
    """What brings a picture upright; None where its EXIF does not say, or cannot be read."""
    try:
        return TURNS.get(image.getexif().get(Base.Orientation, 1))
    except Exception:  # of damaged EXIF Pillow raises nearly anything
        return None


def carried(image: Image.Image) -> Carried:
    """The EXIF of an open picture without what is no longer true of a result and without what
    Pillow cannot read or write, which the notes name. Never raises."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            source = image.getexif()
        except Exception as error:  # as above
            return Carried(None, (f"EXIF could not be read ({in_words(error)})",))
        kept, lost = _copy(source, descriptive_only=image.format == "TIFF")
    notes = [f"{', '.join(lost)} of the EXIF could not be carried over"] if lost else []
    if said:  # by Pillow, which left something out
        notes.append(f"EXIF is damaged, not all of it was read ({in_words(said[0].message)})")
    try:
        data = kept.tobytes()
    except Exception as error:  # each tag can be written, all of them cannot
        return Carried(None, (f"EXIF could not be written back ({in_words(error)})",))
    return Carried(None if data == _empty(source).tobytes() else data, tuple(notes))


def sized(data: bytes, size: tuple[int, int]) -> bytes:
    """EXIF whose pixel size, where it has one, is that of the result."""
    exif = Image.Exif()
    exif.load(data)
    inner = exif.get_ifd(IFD.Exif)
    sides = zip((Base.ExifImageWidth, Base.ExifImageHeight), size, strict=True)
    changes: dict[int, Any] = {tag: side for tag, side in sides if tag in inner}
    if not changes:
        return data
    inner.update(changes)
    return exif.tobytes()


def _copy(source: Image.Exif, descriptive_only: bool) -> tuple[Image.Exif, list[str]]:
    """(EXIF with every tag that comes back from being written, the names of the others)."""
    kept = _empty(source)
    lost: list[str] = []
    for table in TABLES:
        try:
            entries = list(_entries(source, table))
        except Exception:  # as above
            lost.append(f"the table {table.name}" if table else "the main table")
            continue
        if table is None:
            wanted = DESCRIPTIVE if descriptive_only else {tag for tag, _ in entries} - set(UNTRUE)
            entries = [(tag, value) for tag, value in entries if tag in wanted]
        for tag, value in entries:
            if _comes_back(source, table, tag, value):
                _table(kept, table)[tag] = value
            else:
                lost.append(_name(table, tag))
    return kept, lost


def _entries(source: Image.Exif, table: IFD | None) -> Iterator[tuple[int, Any]]:
    for tag, value in dict(source if table is None else source.get_ifd(table)).items():
        if tag not in POINTERS:
            yield tag, _Text(value) if isinstance(value, str) else value


def _empty(source: Image.Exif) -> Image.Exif:
    """Of the same byte order: comments in UTF-16 and makers' notes depend on it."""
    exif = Image.Exif()
    exif.endian = source.endian
    return exif


def _table(exif: Image.Exif, table: IFD | None) -> Any:
    if table is None:
        return exif
    if table is not IFD.Interop:
        return exif.get_ifd(table)
    return exif.get_ifd(IFD.Exif).setdefault(IFD.Interop, {})


def _comes_back(source: Image.Exif, table: IFD | None, tag: int, value: Any) -> bool:
    try:
        alone, again = _empty(source), Image.Exif()
        _table(alone, table)[tag] = value
        again.load(alone.tobytes())
        return tag in (dict(again) if table is None else again.get_ifd(table))
    except Exception:  # as above
        return False


def _name(table: IFD | None, tag: int) -> str:
    names = GPSTAGS if table is IFD.GPSInfo else TAGS
    return names.get(tag, f"tag {tag}")


def in_words(error: Exception | Warning | str) -> str:
    """On one line, and never empty."""
    return " ".join(str(error).split()) or type(error).__name__
