"""Pixels as Load Image understands them: 8 bits, and RGB."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageCms, ImageFile

EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
RGB = b"RGB "
SPACES = {"1": b"GRAY", "L": b"GRAY", "LA": b"GRAY", "CMYK": b"CMYK", "LAB": b"Lab "}
"""Of the profile that fits pixels of a mode; RGB fits the others."""
WIDE = re.compile(r"'(?:L|LA|I|RGB[AXa]?|CMYK);(1[26])")
"""A raw mode of Pillow with more than 8 bits a sample. (BGR;16 has them for all three.)"""


def depth(image: ImageFile.ImageFile, data: bytes) -> int:
    """Bits a sample in the file of a picture that is open and not yet loaded: 12, 16 ..., which
    Pillow cuts to 8 without a word where they are of colors; 8 stands for all below.

    data: the file.
    """
    if wide := WIDE.search(repr(image.tile)):
        return int(wide[1])
    arguments = image.tile[0][3] if image.tile else None
    if image.format == "PPM" and isinstance(arguments, tuple):
        return max(8, int(arguments[-1]).bit_length())  # the largest value
    if image.format == "JPEG2000" and (start := data.find(b"\xff\x4f\xff\x51")) >= 0:
        first = int.from_bytes(data[start + 42 : start + 43], "big")  # Ssiz of one component
        return max(8, (first & 127) + 1)
    if image.format == "AVIF" and (start := data.find(b"av1C")) >= 0:
        flags = int.from_bytes(data[start + 6 : start + 7], "big")  # high_bitdepth, twelve_bit
        return 8 + bool(flags & 64) * (2 + bool(flags & 32) * 2)
    return 8


def eight_bit(image: Image.Image, largest: int = 65535) -> tuple[Image.Image, str]:
    """(A gray picture of mode I or F in 8 bits, what was done). OSError when no number is finite.

    largest: of integers, which is white. Where numbers go beyond it or below 0, and where those of
    mode F are not from 0 to 1, the least of them and 0 is black and the largest white.
    """
    numbers = np.asarray(image).astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        raise OSError("none of its floating-point numbers is finite")
    lowest, highest = (float(end(numbers, where=finite, initial=0)) for end in (np.min, np.max))
    black, white = 0.0, float(largest)
    note = f"sent with 8 of its {largest.bit_length()} bits"
    if image.mode == "F" and lowest >= 0 and highest <= 1:
        white, note = 1.0, "sent with 8 bits; its floating-point numbers are from 0 to 1"
    elif image.mode == "F" or lowest < 0 or highest > white:
        black, white = lowest, highest
        note = (
            f"sent with 8 bits; its numbers from {black:g} (black) to {white:g} (white) are scaled"
        )
    if not finite.all():
        note += f", {(~finite).sum()} that are not finite are black or white"
        numbers = np.nan_to_num(numbers, nan=black, posinf=white, neginf=black)
    scaled = (numbers.clip(black, white) - black) * (255 / (white - black))
    return Image.fromarray(np.rint(scaled).astype(np.uint8)), note


def to_rgb(
    frames: Sequence[Image.Image], icc: bytes | None
) -> tuple[Sequence[Image.Image], bytes | None, str]:
    """(Frames of 8 bits whose numbers Load Image reads right, the profile that goes with them,
    what was done).

    Load Image takes the numbers as they are. A profile of RGB is true of a result, too; from
    another space the frames are converted to sRGB; one that fits no pixel is left out.
    """
    mode = frames[0].mode
    note = ""
    space = _space(icc, mode) if icc else None
    if icc and space is None:
        icc, note = None, "left out a color profile that is damaged or does not fit its pixels"
    if icc is None and mode == "LAB":  # which Pillow converts in no other way
        icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        space = SPACES[mode]
    if icc is None or space == RGB:
        return frames, icc, note
    assert space
    kind = space.decode("ascii").strip()
    try:
        frames = [_to_srgb(frame, icc) for frame in frames]
        note = f"converted from its {kind} profile to sRGB"
    except ImageCms.PyCMSError as error:
        note = f"left out a {kind} profile that cannot be applied ({error})"
    return frames, None, note


def _space(icc: bytes, mode: str) -> bytes | None:
    """Of a profile; None when it is damaged or does not fit pixels of this mode."""
    space = icc[16:20]
    if space != SPACES.get(mode, RGB):
        return None
    try:
        ImageCms.ImageCmsProfile(io.BytesIO(icc))
    except OSError:
        return None
    return space


def _to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    plain = image.convert("L") if image.mode in ("1", "LA") else image  # which littlecms knows
    converted = ImageCms.profileToProfile(
        plain, io.BytesIO(icc), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert converted is not None
    return converted
