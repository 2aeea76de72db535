"""Pictures on their way to ComfyUI and back: what Load Image drops (EXIF, ICC) and what it turns."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageOps,
    PngImagePlugin,
    UnidentifiedImageError,
)

Base, IFD = ExifTags.Base, ExifTags.IFD
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
DESCRIPTIVE = (
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.Software,
    Base.DateTime,
    Base.Artist,
    Base.Copyright,
    Base.ExifOffset,
    Base.GPSInfo,
)
"""What a TIFF says of the picture; its other tags say how this file stores it."""
BEST_PSNR = 100.0
"""Stands for equal pictures."""
SUFFIXES = {"png": ".png", "jpg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True)
class Picture:
    """A photo as it is sent, and what has to be put back."""

    data: bytes
    """What to upload: the file itself, or a PNG where Load Image would get its colors wrong."""
    suffix: str
    pixels: Image.Image | None
    """Upright RGB as Load Image sees it; None for several frames or more than 8 bits."""
    size: tuple[int, int]
    """Upright, width and height."""
    icc: bytes | None
    exif: bytes | None
    """Without what is no longer true of a result."""
    alpha: Image.Image | None
    """Upright, which Load Image keeps apart from the picture; None: nothing is transparent."""
    notes: tuple[str, ...]


def read_picture(path: Path) -> Picture:
    """A photo from a file. OSError when it cannot be read."""
    try:
        return _read(path)
    except UnidentifiedImageError:
        raise OSError(f"{path.name} is no picture that can be read") from None
    except (
        OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError,
    ) as error:  # fmt: skip
        raise OSError(f"{path.name} cannot be read as a picture: {error}") from error


def _read(path: Path) -> Picture:
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:  # one of its own: what is deleted stays deleted
        exif, note = _exif(image)
    notes = [note] if note else []
    repacked = False
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        # Of a phone's MPO, Load Image takes the first frame only.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        upright = ImageOps.exif_transpose(image)
        size, suffix = upright.size, path.suffix.lower()
        icc = image.info.get("icc_profile") or None
        alpha = _alpha(upright) if frames == 1 else None
        if upright.mode[0] in "IF":
            # Load Image cuts such numbers off at 255, which leaves a white picture.
            upright, repacked = _eight_bit(upright), True
            notes.append("sent with 8 of its 16 bits")
        if icc is not None and (space := icc[16:20]) != b"RGB ":
            # Load Image reads the numbers as they are, and its RGB cannot carry this profile.
            upright, icc, repacked = _to_srgb(upright, icc), None, True
            notes.append(
                f"converted from its {space.decode('ascii', 'replace').strip()} profile to sRGB"
            )
        if repacked:
            packed = io.BytesIO()
            upright.save(packed, "PNG")
            data, suffix, frames = packed.getvalue(), ".png", 1
        plain = frames == 1 and upright.mode in EIGHT_BIT
        return Picture(
            data,
            suffix,
            upright.convert("RGB") if plain else None,
            size,
            icc,
            exif,
            alpha,
            tuple(notes),
        )


def _alpha(image: Image.Image) -> Image.Image | None:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def _eight_bit(image: Image.Image) -> Image.Image:
    """Of a gray picture in 16 bits."""
    numbers = np.asarray(image)
    if image.mode == "F" or numbers.min() < 0 or numbers.max() > 65535:
        raise OSError(
            f"it holds numbers from {numbers.min():g} to {numbers.max():g} in mode {image.mode}, "
            "expected 8 or 16 bits: save it with those"
        )
    return Image.fromarray(np.rint(numbers / 257).astype(np.uint8))


def _to_srgb(image: Image.Image, icc: bytes) -> Image.Image:
    try:
        converted = ImageCms.profileToProfile(
            image, io.BytesIO(icc), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except ImageCms.PyCMSError as error:
        raise OSError(f"its color profile does not fit its pixels ({error})") from error
    assert converted is not None
    converted.info.clear()
    return converted


def _exif(image: Image.Image) -> tuple[bytes | None, str]:
    """(what of the EXIF is still true of a result, a note where something was lost)."""
    try:
        exif = image.getexif()
        for tag in [tag for tag in exif if image.format == "TIFF" and tag not in DESCRIPTIVE]:
            del exif[tag]
        for tag in (Base.Orientation, Base.ImageWidth, Base.ImageLength):
            exif.pop(tag, None)  # the result is upright and has a size of its own
        return (exif.tobytes() if len(exif) else None), ""
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, struct.error) as error:
        return None, f"EXIF could not be read ({error})"


def save_picture(
    result: bytes, picture: Picture, target: Path, kind: str, quality: int
) -> tuple[tuple[int, int], str]:
    """Writes what ComfyUI made, with the photo's EXIF, ICC profile and alpha. Returns (width and
    height, why the photo's alpha is not in it; empty: it is, or there was none).

    kind: of `SUFFIXES`. quality: of jpg and webp, 1 to 100. The workflow that Save Image puts
    into a PNG stays in it.
    """
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        texts = getattr(image, "text", {})
    options: dict[str, object] = {}
    if picture.icc:
        options["icc_profile"] = picture.icc
    if picture.exif is not None:
        options["exif"] = _sized(picture.exif, image.size)
    lost = _alpha_problem(picture, image, kind)
    if picture.alpha and not lost:
        image = image.convert("RGB")
        image.putalpha(picture.alpha.resize(image.size, Image.Resampling.BICUBIC))
    if kind == "png":
        kept = PngImagePlugin.PngInfo()
        for key, value in texts.items():
            kept.add_text(key, value)
        options["pnginfo"] = kept
    elif kind == "jpg":
        image = image.convert("RGB")
        options |= {"quality": quality, "subsampling": 0}
    else:
        options["quality"] = quality
    image.info = {}  # nothing of the result's own file
    image.save(target, {"jpg": "JPEG"}.get(kind, kind.upper()), **options)
    return image.size, lost


def _alpha_problem(picture: Picture, result: Image.Image, kind: str) -> str:
    """Why the photo's transparency does not come back in a result; empty: it does."""
    if picture.alpha is None:
        return ""
    if kind == "jpg":
        return "transparency lost: JPEG has none"
    if not same_shape(picture.size, result.size):
        return "transparency lost: the result has another shape"
    if result.mode not in EIGHT_BIT:
        return "transparency lost: the result has more than 8 bits"
    if "A" in result.getbands() and _alpha(result) is not None:
        return "transparency of the photo lost: the result has its own"
    return ""


def same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two sizes differ only in scale, but for a rounding."""
    return abs(b[0] * a[1] - b[1] * a[0]) <= max(*a, *b)


def _sized(data: bytes, size: tuple[int, int]) -> bytes:
    exif = Image.Exif()
    exif.load(data)
    inner = exif.get_ifd(IFD.Exif)
    sides = zip((Base.ExifImageWidth, Base.ExifImageHeight), size, strict=True)
    inner.update({tag: side for tag, side in sides if tag in inner})
    return exif.tobytes()


def lr_psnr(before: Image.Image | None, results: Sequence[Image.Image]) -> float | None:
    """Does the result still say what the photo said: PSNR in dB over 8-bit RGB between the photo
    and the result brought to its size (antialiased bicubic; the larger of the two shrinks).

    High means unchanged, not good. None where there is not one of each, or where the shape
    differs by more than a rounding, so that they do not show the same.
    """
    if before is None or len(results) != 1:
        return None
    after = results[0].convert("RGB")
    if not same_shape(before.size, after.size):
        return None
    size = min(before.size, after.size)
    small = [each.resize(size, Image.Resampling.BICUBIC) for each in (before, after)]
    a, b = (np.asarray(each, np.float64) for each in small)
    error = np.square(a - b).mean()
    if not error:
        return BEST_PSNR
    return round(min(BEST_PSNR, float(10 * np.log10(255**2 / error))), 3)
