"""Files of torch.save: where their parts lie, and whether what they claim is in them.

The newer form is a zip archive with one pickle and a record for each storage, the older one a row of
pickles with the storages after them. Nothing is unpacked and no size that a file claims is allocated.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .pickles import Claims, UnreadableError, more_than_tensors, newer_protocol, read_claims
from .state_dict import CheckpointError
from .text import AGAIN, size_words

ZIP = b"PK\x03\x04"
MAX_DIRECTORY = 1 << 23
"""Bytes of an archive's list of records: 80,000 of them."""
MAX_PICKLE = 1 << 25
"""Bytes of the pickles of a file, without the numbers."""
END = struct.Struct("<4s4H2LH")
"""What ends an archive, when no comment follows; torch.save writes none."""
LOCATOR = struct.Struct("<4sLQL")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
LEGACY_MARK = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
"""Begins the older form."""
LEGACY_PICKLES = 5
"""One after another in such a file: the mark, a protocol, a system, what was saved, its storages."""
SAFE_PROTOCOL = 3
"""The newest of which torch's safe reader knows all that weights need."""
MAX_REPEATS = 4
"""Tensors may share their numbers. Published files hold them once, training states twice."""
ALLOWANCE = 1 << 24
"""Bytes that small files may repeat beyond that."""


@dataclass(frozen=True)
class Record:
    """A file in an archive."""

    offset: int
    """Where its header begins in the archive."""
    size: int


def torch_file_problem(path: Path) -> str:
    """Why a pickle or an archive is no whole file of weights, in a sentence; empty: it may be one.

    Bounded in time and memory whatever the file claims: what gets through, torch's safe reader can
    be given.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(4).startswith(b"PK")
        if zipped:
            _check_archive(path)
        else:
            _check_legacy(path)
    except CheckpointError as error:
        return str(error)
    except UnreadableError:
        return _nonsense(path)
    return ""


def refusal(path: Path) -> CheckpointError:
    """Why torch's safe reader refuses a pickle in which `torch_file_problem` finds nothing wrong."""
    claims = Claims()
    with path.open("rb") as file:
        zipped = file.read(4) == ZIP
    for stream in [_pickle(path, records_of(path))] if zipped else _legacy_pickles(path):
        read_claims(stream, path.name, claims)
    if claims.wish:
        return more_than_tensors(path.name, claims.wish)
    if claims.protocol > SAFE_PROTOCOL:
        return newer_protocol(path.name)
    return CheckpointError(_nonsense(path))


def _nonsense(path: Path) -> str:
    return f"{path.name} is damaged (its pickle makes no sense): {AGAIN}."


def records_of(path: Path) -> dict[str, Record]:
    """The records of an archive as torch.save writes it, by name without the common folder. Raises
    CheckpointError for any other archive and for a file that is cut off."""
    size = path.stat().st_size
    length = _directory_size(path, size)
    if length is None or length > size:
        raise CheckpointError(
            f"{path.name} is cut off after {size_words(size)}, its end is missing: {AGAIN}."
        )
    if length > MAX_DIRECTORY:
        raise CheckpointError(
            f"{path.name} is an archive with a list of records of {size_words(length)}, as no file "
            "of weights has: get the published one."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, LookupError, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(
            f"{path.name} is damaged (its list of records makes no sense): {AGAIN}."
        ) from error
    return _checked_records(path.name, size, entries)


def _directory_size(path: Path, size: int) -> int | None:
    """Bytes of an archive's list of records, without reading it; None: the end is missing."""
    with path.open("rb") as file:
        if size < END.size:
            return None
        file.seek(-END.size, 2)
        mark, *_, length, _, comment = END.unpack(file.read(END.size))
        if mark != b"PK\x05\x06" or comment:
            return None
        if size < END.size + LOCATOR.size:
            return length
        file.seek(-END.size - LOCATOR.size, 2)
        mark, _, position, _ = LOCATOR.unpack(file.read(LOCATOR.size))
        if mark != b"PK\x06\x07":
            return length
        if position > size - END_64.size:
            return None
        file.seek(position)
        mark, *_, length_64, _ = END_64.unpack(file.read(END_64.size))
        return max(length, length_64) if length != 0xFFFFFFFF else length_64


def _checked_records(name: str, size: int, entries: list[zipfile.ZipInfo]) -> dict[str, Record]:
    names = [entry.filename for entry in entries]
    if not any(each.endswith("data.pkl") for each in names):
        if not names:
            raise CheckpointError(f"{name} is an empty zip archive: {AGAIN}.")
        inside = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise CheckpointError(
            f"{name} is a zip archive ({inside}): unpack it and name the file in it."
        )
    if any(each.endswith("constants.pkl") for each in names):
        raise CheckpointError(
            f"{name} is a TorchScript program, expected only weights: look for those, or for a "
            "safetensors version, at its authors."
        )
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise CheckpointError(
            f"{name} is a packed archive, as torch.save writes none: unpack it and archive it "
            "again without compression, or get the published file."
        )
    folders = {each.partition("/")[0] for each in names}
    doubled = len(set(names)) != len(names)
    held = sum(entry.file_size for entry in entries)
    spread = any(entry.file_size != entry.compress_size for entry in entries)
    if len(folders) != 1 or doubled or spread or held > size or entries[0].header_offset:
        raise CheckpointError(
            f"{name} is an archive that torch.save has not written (its records are doubled, overlap "
            "or lie apart): get the published file."
        )
    return {
        entry.filename.partition("/")[2]: Record(entry.header_offset, entry.file_size)
        for entry in entries
    }


def _pickle(path: Path, records: dict[str, Record]) -> io.BytesIO:
    record = records.get("data.pkl")
    if record is None:
        raise CheckpointError(f"{path.name} is damaged (it lacks data.pkl): {AGAIN}.")
    if record.size > MAX_PICKLE:
        raise CheckpointError(
            f"{path.name} has a pickle of {size_words(record.size)} beside its numbers, as no "
            "weights have: look for a safetensors version at its authors."
        )
    with path.open("rb") as file:
        file.seek(record.offset)
        header = file.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or not header.startswith(ZIP):
            raise UnreadableError("no record")
        *_, name, extra = LOCAL_HEADER.unpack(header)
        file.seek(name + extra, 1)
        return io.BytesIO(file.read(record.size))


def _check_archive(path: Path) -> None:
    records, claims = records_of(path), Claims()
    read_claims(_pickle(path, records), path.name, claims)
    for key, claimed in claims.storages.items():
        record = records.get(f"data/{key}")
        if record is None:
            raise CheckpointError(f"{path.name} is damaged (it lacks data/{key}): {AGAIN}.")
        if claimed > record.size:
            raise _too_much(path.name, claimed, record.size)
    _check_repeats(path, claims)


def _legacy_pickles(path: Path) -> Iterator[io.BytesIO]:
    """The pickles of a file in the older form, one by one: all the same stream, to be read on."""
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(MAX_PICKLE))
    count = LEGACY_PICKLES if LEGACY_MARK in stream.getbuffer()[:32].tobytes() else 1
    for _ in range(count):
        yield stream


def _check_legacy(path: Path) -> None:
    claims, end = Claims(), 0
    for stream in _legacy_pickles(path):
        read_claims(stream, path.name, claims)
        end = stream.tell()
    # Each storage comes after its length.
    claimed = sum(size + 8 for size in claims.storages.values())
    held = path.stat().st_size - end
    if claimed > held:
        raise _too_much(path.name, claimed, held)
    _check_repeats(path, claims)


def _too_much(name: str, claimed: int, held: int) -> CheckpointError:
    return CheckpointError(
        f"{name} is cut off or damaged: it lists {size_words(claimed)} of numbers and has "
        f"{size_words(held)}. Download it again."
    )


def _check_repeats(path: Path, claims: Claims) -> None:
    if claims.rebuilt > MAX_REPEATS * path.stat().st_size + ALLOWANCE:
        raise CheckpointError(
            f"{path.name} has {size_words(path.stat().st_size)} and claims tensors of "
            f"{size_words(claims.rebuilt)} with the same numbers over and over, as no weights do: "
            "get the published file."
        )
