"""Why a path is no whole file of weights, from its first bytes and its end: no weight is read."""

from __future__ import annotations

import codecs
import contextlib
import os
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .state_dict import CheckpointError
from .text import AGAIN, first_sentence, size_words
from .torch_files import refusal, torch_file_problem

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".pth", ".pt", ".ckpt", ".bin", ".pkl")
ENDINGS = ", ".join((SAFETENSORS[0], *PICKLES))
UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".aria2", ".incomplete", ".tmp")
"""What programs call a download that has not ended."""
ARCHIVES = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
}
COMMENTS = re.compile(rb"(?:<!--(?:(?!-->).)*-->\s*)*", re.S)
WEB_PAGE = re.compile(rb"<(!doctype html|html|head)", re.I)
HEAD = 512
"""Bytes that tell a file's kind; a tar archive says so at 257."""
MAX_HEADER = 1 << 24
"""Bytes of a safetensors header. The format allows six times more; published ones have 1/20."""
MAX_WEIGHTS = 20_000
"""The most that a file may have; a whole SDXL checkpoint has 2,500."""
ENDS = re.compile(rb'"data_offsets"\s*:\s*\[\s*\d{1,20}\s*,\s*(\d{1,20})\s*\]')
"""Where a weight ends, in such a header."""


def weights_problem(path: Path) -> str:
    """What is found in place of a file of weights, what was expected and what to do, in one
    sentence or two; empty: it may be one."""
    if problem := file_problem(path):
        return problem
    if not _is_utf_8(str(path)):
        return (
            f"{path.name} has a name that is not UTF-8, or lies in such a folder, and torch opens "
            "no such file: rename it."
        )
    head, size = _head(path), path.stat().st_size
    if head.startswith(b"GGUF"):
        return (
            f"{path.name} is a GGUF file, which no loader of the pack reads: get the published one."
        )
    if path.suffix.lower() == ".onnx":
        return f"{path.name} is an ONNX network: expected weights in one of {ENDINGS}."
    announced = _announced(path, size)
    if path.suffix.lower() in SAFETENSORS:
        if announced is None and head.startswith((b"PK", b"\x80")):
            return _rename(path, "a PyTorch pickle", ".pth")
        return _safetensors_problem(path, size, announced)
    if announced is not None:
        return _rename(path, "a safetensors file", ".safetensors")
    if head.startswith((b"PK", b"\x80")):  # the second begins every pickle since protocol 2
        return torch_file_problem(path)
    return (
        f"{path.name} is no file of weights: it begins with the bytes {head[:8].hex(' ')}, as "
        f"neither safetensors nor a PyTorch pickle does ({ENDINGS}). Download it again."
    )


@contextlib.contextmanager
def sentences(path: Path, name: str = "") -> Iterator[None]:
    """Reading a file in which `weights_problem` finds nothing wrong: whatever the reader raises
    becomes a CheckpointError. name: for a file that the user knows by another than its own."""
    try:
        yield
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise refusal(path) from error
    except MemoryError as error:
        size = size_words(path.stat().st_size)
        raise CheckpointError(
            f"{name or path.name} does not fit into the memory that is free ({size} on the disk): "
            "close other programs and try again."
        ) from error
    except Exception as error:  # which one depends on the format and on torch's version
        raise CheckpointError(
            f"{name or path.name} is damaged ({first_sentence(error)}): {AGAIN}."
        ) from error


def file_problem(path: Path) -> str:
    """The same for a file of any binary kind: not there, closed, empty, unfinished, an archive, or
    what a server sends in place of a file."""
    if not os.path.isfile(path):  # also where no disk takes such a name
        return _absent(path)
    try:
        head = _head(path)
    except OSError as error:
        return f"{path} cannot be opened: {error.strerror or error}. Let this user read it."
    if not head:
        return f"{path.name} is empty: download it again."
    if path.suffix.lower() in UNFINISHED:
        return f"{path.name} is a download that has not ended: let it end, or start it again."
    if what := _other_kind(head):
        return f"{path.name} holds no weights: it is {what}"
    return ""


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _absent(path: Path) -> str:
    if os.path.islink(path):
        return f"{path} is a link to {os.readlink(path)}, which is not there: correct the link."
    if os.path.exists(path):
        return f"{path} is no file: name a file ({ENDINGS}), or the folder of one network."
    folder = next((each for each in path.absolute().parents if each.is_dir()), "none")
    if folder != path.absolute().parent:
        return f"There is no file {path}: of its folders only {folder} exists. Correct the path."
    return f"There is no file {path}: correct the name."


def _other_kind(head: bytes) -> str:
    """What a file without weights is, and what to do; empty: it may have some."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"version https://git-lfs"):
        whole = re.search(rb"\nsize (\d+)", text)
        stands = f" that stands for {size_words(int(whole[1]))}" if whole else ""
        return f"a Git LFS pointer{stands}. Run git lfs pull, or download the file itself."
    if WEB_PAGE.match(COMMENTS.sub(b"", text, count=1)):
        return "a web page. Use the download link, not the address of the page."
    if said := _first_words(text):
        return (
            f"text ({said}). If a server said that instead of sending the file, open the link in "
            "a browser, log in or accept the terms there, and download it again."
        )
    kind = next((kind for magic, kind in ARCHIVES.items() if head.startswith(magic)), "")
    header_begins = head[8:9] == b"{"  # then the first bytes are a safetensors file's length
    if not header_begins and (kind or head[257:262] == b"ustar"):
        return f"a {kind or 'tar'} archive. Unpack it and name the file in it."
    return ""


def _first_words(head: bytes) -> str:
    """The beginning of a text; empty: it is none."""
    try:
        # A decoder that waits for more: the head may end within a letter.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return ""
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return ""
    words = " ".join(text.split())
    return words if len(words) <= 60 else f"{words[:60]}..."


def _rename(path: Path, what: str, ending: str) -> str:
    return (
        f"{path.name} is {what} under a wrong name, and loaders go by the name: rename it to "
        f"{path.with_suffix(ending).name}."
    )


@dataclass(frozen=True)
class _Announced:
    """What a safetensors header says."""

    size: int
    """Bytes that the file should have; 0: it ends within its header."""
    weights: int


def _announced(path: Path, size: int) -> _Announced | None:
    """None: it is no such file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 1 < length <= MAX_HEADER or file.read(1) != b"{":
            return None
        if length > size - 8:
            return _Announced(0, 0)
        header = file.read(length - 1)
    if not header.rstrip().endswith(b"}"):
        return None
    # Not parsed: a hostile one takes all memory. No key or text in it has quotes like these.
    ends = [int(end) for end in ENDS.findall(header)]
    return _Announced(8 + length + max(ends, default=0), len(ends))


def _safetensors_problem(path: Path, size: int, announced: _Announced | None) -> str:
    name = path.name
    if announced is None:
        return f"{name} is no safetensors file, or its beginning is damaged: {AGAIN}."
    if not announced.size:
        return f"{name} is cut off after {size_words(size)}, in the list of its weights: {AGAIN}."
    if size != announced.size:
        found, expected = f"{size:,} bytes", f"{announced.size:,}"
        return (
            f"{name} is not whole: it has {found}, its header says {expected}. Download it again."
        )
    if announced.weights > MAX_WEIGHTS:
        return (
            f"{name} lists {announced.weights:,} weights, and no network here has more than "
            f"{MAX_WEIGHTS:,}: get the published file."
        )
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):  # reads the header, and holds each weight's place against it
            return ""
    except (SafetensorError, OSError, ValueError) as error:
        return f"{name} is damaged ({first_sentence(error)}): {AGAIN}."
