"""PNGs of which a part that no pixel needs is damaged: viewers show them, Pillow refuses them."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ANIMATION = (b"acTL", b"fcTL", b"fdAT")
"""True of each other only."""
WORDS = {
    b"acTL": "animation",
    b"eXIf": "EXIF",
    b"fcTL": "animation",
    b"fdAT": "animation",
    b"iCCP": "color profile",
    b"tRNS": "transparency",
}


def without_damage(data: bytes) -> tuple[bytes, list[str]]:
    """(A PNG without the ancillary chunks that Pillow cannot read, what they hold). Other data come
    back as they are, and so does a PNG that is damaged elsewhere."""
    if not data.startswith(SIGNATURE):
        return data, []
    chunks = list(_chunks(data))
    needed = [chunk for chunk in chunks if not _is_ancillary(chunk)]
    kept: list[bytes] = []
    lost: dict[str, None] = {}
    for chunk in chunks:
        if not _is_ancillary(chunk) or (_kind(chunk) not in ANIMATION and _opens(needed, chunk)):
            kept.append(chunk)
        else:
            kind = _kind(chunk)
            lost[WORDS.get(kind, kind.decode("latin-1"))] = None
    return SIGNATURE + b"".join(kept), list(lost)


def _chunks(data: bytes) -> Iterator[bytes]:
    """With length and check sum; the last one may be cut off."""
    start = len(SIGNATURE)
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        yield data[start:end]
        start = end


def _kind(chunk: bytes) -> bytes:
    return chunk[4:8]


def _is_ancillary(chunk: bytes) -> bool:
    return bool(chunk[4:5] and chunk[4] & 0x20)


def _opens(needed: list[bytes], chunk: bytes) -> bool:
    """Whether Pillow reads a chunk, which it does before the pixels."""
    pixels = next((n for n, each in enumerate(needed) if _kind(each) == b"IDAT"), len(needed))
    parts = [SIGNATURE, *needed[:pixels], chunk, *needed[pixels : pixels + 1]]
    try:
        with Image.open(io.BytesIO(b"".join(parts)), formats=["PNG"]):
            return True
    except Exception:  # of a damaged file Pillow raises nearly anything
        return False
