"""Why a path is no whole file of weights, from its first bytes and its end: no weight is read."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import zipfile
from pathlib import Path

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".pth", ".pt", ".ckpt", ".bin")
ENDINGS = ", ".join((SAFETENSORS[0], *PICKLES))
AGAIN = "compare its size with the published one and download it again"
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
MAX_HEADER = 100_000_000
"""Bytes of a safetensors header, by the format."""


def weights_problem(path: Path) -> str:
    """What is found in place of a file of weights, what was expected and what to do, in one
    sentence or two; empty: it may be one."""
    if problem := file_problem(path):
        return problem
    head, size = _head(path), path.stat().st_size
    if head.startswith(b"GGUF"):
        return (
            f"{path.name} is a GGUF file, which no loader of the pack reads: get the published one."
        )
    if path.suffix.lower() == ".onnx":
        return f"{path.name} is an ONNX network: expected weights in one of {ENDINGS}."
    announced = _announced_size(path, size)
    if path.suffix.lower() in SAFETENSORS:
        if announced is None and head.startswith((b"PK", b"\x80")):
            return _rename(path, "a PyTorch pickle", ".pth")
        return _safetensors_problem(path.name, size, announced)
    if announced is not None:
        return _rename(path, "a safetensors file", ".safetensors")
    if head.startswith(b"PK"):
        return _zip_problem(path, size)
    if head.startswith(b"\x80"):  # as every pickle since protocol 2
        return ""
    return (
        f"{path.name} is no file of weights: it begins with the bytes {head[:8].hex(' ')}, as "
        f"neither safetensors nor a PyTorch pickle does ({ENDINGS}). Download it again."
    )


def file_problem(path: Path) -> str:
    """The same for a file of any binary kind: not there, closed, empty, unfinished, an archive, or
    what a server sends in place of a file."""
    if not path.is_file():
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


def size_words(size: int) -> str:
    """Bytes in words."""
    return f"{size / 2**20:,.1f} MiB" if size >= 2**20 else f"{size:,} bytes"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _absent(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to {os.readlink(path)}, which is not there: correct the link."
    if path.exists():
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


def _zip_problem(path: Path, size: int) -> str:
    """PyTorch's own files are zip archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return f"{path.name} is cut off after {size_words(size)}, its end is missing: {AGAIN}."
    if not any(name.endswith("data.pkl") for name in names):
        inside = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"{path.name} is a zip archive ({inside}): unpack it and name the file in it."
    if any(name.endswith("constants.pkl") for name in names):
        return (
            f"{path.name} is a TorchScript program, expected only weights: look for those, or for "
            "a safetensors version, at its authors."
        )
    return ""


def _announced_size(path: Path, size: int) -> int | None:
    """Bytes that a safetensors file should have, by its header; 0: it ends within the header;
    None: it is no such file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if file.read(1) != b"{" or length > MAX_HEADER:
            return None
        if length > size - 8:
            return 0
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
            table = json.loads(b"{" + file.read(length - 1))
            ends = [e["data_offsets"][1] for name, e in table.items() if name != "__metadata__"]
            return 8 + length + max(ends, default=0)
    return None


def _safetensors_problem(name: str, size: int, announced: int | None) -> str:
    if announced is None:
        return f"{name} is no safetensors file, or its beginning is damaged: {AGAIN}."
    if not announced:
        return f"{name} is cut off after {size_words(size)}, in the list of its weights: {AGAIN}."
    if size != announced:
        found, expected = f"{size:,} bytes", f"{announced:,}"
        return (
            f"{name} is not whole: it has {found}, its header says {expected}. Download it again."
        )
    return ""
