"""Pictures on their way to ComfyUI and back: what Load Image drops (EXIF, ICC) and what it turns."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from .colors import EIGHT_BIT, depth, eight_bit, to_rgb
from .exif import carried, in_words, sized, turn
from .png import without_damage

Image.init()
NOT_OPENED = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""They start another program or open another file, or Pillow knows no more than their names."""
FORMATS = tuple(sorted(Image.OPEN.keys() - NOT_OPENED))
EXTENSIONS = tuple(
    sorted(
        ending
        for ending, name in Image.registered_extensions().items()
        if name in (*FORMATS, "MPO")  # which is opened as JPEG
    )
)
"""Endings of files that `read_picture` may be able to read, in lower case."""
SENT = {
    "BMP": ".bmp",
    "GIF": ".gif",
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "TIFF": ".tif",
    "WEBP": ".webp",
}
"""What Load Image reads with any Pillow, and the ending that says so; others are packed anew."""
SUFFIXES = {"png": ".png", "jpg": ".jpg", "webp": ".webp"}
LONGEST_SIDE = {"jpg": 65500, "webp": 16383}
ROOM_IN_JPEG = {"exif": ("EXIF", 65533), "icc_profile": ("profile", 255 * 65519)}
"""Pillow's word -> ours, bytes."""


@dataclass(frozen=True)
class Picture:
    """A photo as it is sent, and what has to be put back."""

    data: bytes
    """What to upload: the file itself, or its pixels anew where Load Image would fail or get them
    wrong."""
    suffix: str
    """Of what is uploaded, whatever the file is called."""
    pixels: Image.Image | None
    """Upright RGB as Load Image sees it; None for several frames."""
    size: tuple[int, int]
    """Upright, width and height."""
    icc: bytes | None
    exif: bytes | None
    """Without what is no longer true of a result."""
    alpha: Image.Image | None
    """Upright, which Load Image keeps apart from the picture; None: nothing is transparent."""
    notes: tuple[str, ...]


def read_picture(path: Path, one_frame: bool = False) -> Picture:
    """A photo from a file. What of it cannot be carried over is left out and noted.

    one_frame: the first of several is the picture. Raises OSError, which names the file, and
    nothing else, when its pixels cannot be read.
    """
    name = path.name.encode("utf-8", "backslashreplace").decode()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OSError(f"{name} cannot be read: {error.strerror or error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the notes say what matters of them
            return _read_mended(data, one_frame)
    except UnidentifiedImageError:
        raise OSError(f"{name} is no picture that can be read") from None
    except Exception as error:  # of a damaged file Pillow raises nearly anything
        raise OSError(f"{name} cannot be read as a picture: {in_words(error)}") from error


def _read_mended(data: bytes, one_frame: bool) -> Picture:
    """As `_read`, also where a part of a PNG is damaged that no pixel needs."""
    try:
        return _read(data, one_frame)
    except Exception:
        mended, lost = without_damage(data)
        if not lost:
            raise
    picture = _read(mended, one_frame)
    note = f"left out damaged parts of the file ({', '.join(lost)})"
    return replace(picture, notes=(note, *picture.notes))


def _read(data: bytes, one_frame: bool) -> Picture:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        bits = depth(image, data)
        exif = carried(image)
        frames, cut = _frames(image, one_frame)
        icc, suffix = image.info.get("icc_profile") or None, SENT.get(image.format or "")
        largest = 2**bits - 1 if image.format == "TIFF" and bits > 8 else 65535
    size = frames[0].size
    alphas = [_alpha(frame) for frame in frames]
    notes = [f"sent with 8 of its {bits} bits"] if bits > 8 and not _is_deep(frames[0]) else []
    shallow = [eight_bit(frame, largest) if _is_deep(frame) else (frame, "") for frame in frames]
    frames, icc, converted = to_rgb([frame for frame, _ in shallow], icc)
    changed = [*(note for _, note in shallow), converted]
    # What cannot be read here fails in Load Image, EXIF at least where the picture is turned.
    if suffix is None or cut or exif.notes or any(changed) or frames[0].mode not in EIGHT_BIT:
        data, suffix = _packed(frames, alphas)
    notes = dict.fromkeys(filter(None, [*exif.notes, *cut, *notes, *changed]))
    single = len(frames) == 1
    return Picture(
        data,
        suffix,
        frames[0].convert("RGB") if single else None,
        size,
        icc,
        exif.data,
        alphas[0] if single else None,
        tuple(notes),
    )


def _frames(image: Image.Image, one_frame: bool) -> tuple[list[Image.Image], list[str]]:
    """(Upright, those that are wanted and can be read; what was left out). Raises whatever Pillow
    does where there is not one."""
    frames: list[Image.Image] = []
    left_out: list[str] = []
    try:
        while _goes_to(image, len(frames)):
            image.load()
            way = turn(image)
            frames.append(image.copy() if way is None else image.transpose(way))
    except Exception:  # as above
        if not frames:
            raise
        left_out = [f"only {len(frames)} of its frames could be read"]
    if image.format == "MPO":  # a phone's; Load Image takes the first frame only
        return frames[:1], left_out
    if one_frame and len(frames) > 1:
        return frames[:1], [f"the first of its {len(frames)} frames alone"]
    return frames, left_out


def _goes_to(image: Image.Image, frame: int) -> bool:
    """False after the last one."""
    try:
        if frame:  # where there are no frames, some formats refuse even the first
            image.seek(frame)
    except EOFError:
        return False
    return True


def _is_deep(image: Image.Image) -> bool:
    """Whether Load Image would cut its numbers off at 255, which leaves a white picture."""
    return image.mode[0] in "IF"


def _alpha(image: Image.Image) -> Image.Image | None:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def _packed(
    frames: Sequence[Image.Image], alphas: Sequence[Image.Image | None]
) -> tuple[bytes, str]:
    """(A file of these pixels and nothing else, its ending). Of several frames PNG would merge
    equal ones."""
    plain = []
    for frame, alpha in zip(frames, alphas, strict=True):
        pixels = frame.convert("L" if frame.mode == "L" else "RGB")
        if alpha is not None:
            pixels.putalpha(alpha)
        pixels.info = {}
        plain.append(pixels)
    packed = io.BytesIO()
    if len(plain) == 1:
        plain[0].save(packed, "PNG")
        return packed.getvalue(), SENT["PNG"]
    plain[0].save(packed, "TIFF", save_all=True, append_images=plain[1:])
    return packed.getvalue(), SENT["TIFF"]


def save_picture(
    result: bytes, picture: Picture, target: Path | IO[bytes], kind: str, quality: int
) -> tuple[tuple[int, int], str]:
    """Writes what ComfyUI made, with the photo's EXIF, ICC profile and alpha. Returns (width and
    height, what of them is not in it and why; empty: it all is).

    kind: of `SUFFIXES`. quality: of jpg and webp, 1 to 100. The workflow that Save Image puts
    into a PNG stays in it. Raises OSError when the result itself cannot be read or written.
    """
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        texts = getattr(image, "text", {})
    if max(image.size) > (longest := LONGEST_SIDE.get(kind, max(image.size))):
        width, height = image.size
        raise OSError(
            f"the result has {width}x{height} pixels, a {kind} has at most {longest} a side: save it "
            "as png"
        )
    lost = [_alpha_problem(picture, image, kind)]
    if picture.alpha and not lost[0]:
        image = image.convert("RGB")
        image.putalpha(picture.alpha.resize(image.size, Image.Resampling.BICUBIC))
    options: dict[str, Any] = {}
    if kind == "png":
        kept = options["pnginfo"] = PngImagePlugin.PngInfo()
        for key, value in texts.items():
            kept.add_text(key, value)
    else:
        image = eight_bit(image)[0] if _is_deep(image) else image
        options["quality"] = quality
    if kind == "jpg":
        image = image.convert("RGB")
        options["subsampling"] = 0
    metadata: dict[str, bytes] = {}
    if picture.icc:
        metadata["icc_profile"] = picture.icc
    if picture.exif is not None:
        metadata["exif"] = sized(picture.exif, image.size)
    for what, (word, room) in ROOM_IN_JPEG.items() if kind == "jpg" else ():
        if len(metadata.get(what, b"")) > room:
            size = len(metadata.pop(what))
            lost.append(f"{word} lost: it has {size} bytes, and JPEG has room for {room}")
    image.info = {}  # nothing of the result's own file
    image.save(target, {"jpg": "JPEG"}.get(kind, kind.upper()), **options, **metadata)
    return image.size, "; ".join(filter(None, lost))


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


def lr_psnr(before: Image.Image | None, results: Sequence[Image.Image]) -> float | None:
    """Does the result still say what the photo said: PSNR in dB over 8-bit RGB between the photo
    and the result brought to its size (antialiased bicubic; the larger of the two shrinks).

    High means unchanged, not good. None where there is not one of each, or where the shape
    differs by more than a rounding, so that they do not show the same.
    """
    if before is None or len(results) != 1:
        return None
    after = results[0]
    after = (eight_bit(after)[0] if _is_deep(after) else after).convert("RGB")
    if not same_shape(before.size, after.size):
        return None
    size = min(before.size, after.size)
    small = [each.resize(size, Image.Resampling.BICUBIC) for each in (before, after)]
    return round(rgb_psnr(*small), 3)


def rgb_psnr(image: Image.Image, reference: Image.Image) -> float:
    """PSNR in dB over the three channels of two 8-bit RGB pictures of one size."""
    import torch  # which the commands that need no figure do without

    from ...common.metrics import PEAK, psnr

    a, b = (torch.tensor(np.asarray(each)).movedim(-1, 0)[None] for each in (image, reference))
    return psnr(a, b, PEAK).item()
