"""EXIF and ICC on their way through, and the figure in the manifest."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, ImageSequence, PngImagePlugin, TiffImagePlugin
from PIL.ExifTags import IFD, Base

from restoration.common.metrics import CAP
from restoration.tools.folder.colors import depth
from restoration.tools.folder.pictures import (
    EXTENSIONS,
    FORMATS,
    SENT,
    SUFFIXES,
    lr_psnr,
    read_picture,
    save_picture,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def camera_exif(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    exif[Base.Make] = "Maker"
    exif[Base.ImageWidth] = 40
    inner = exif.get_ifd(IFD.Exif)
    inner[Base.DateTimeOriginal] = "2001:02:03 04:05:06"
    inner[Base.ExifImageWidth], inner[Base.ExifImageHeight] = 40, 30
    exif.get_ifd(IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


def save_photo(path: Path, orientation: int = 6, **options) -> Path:
    """A photo with the camera's EXIF."""
    exif = camera_exif(orientation)
    if path.suffix == ".tiff":
        # Saving TIFF, Pillow takes the outer table of an `exif` only.
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[Base.Orientation], tags[Base.Make] = orientation, "Maker"
        tags[IFD.Exif] = dict(exif.get_ifd(IFD.Exif))
        tags[IFD.GPSInfo] = dict(exif.get_ifd(IFD.GPSInfo))
        gradient().save(path, tiffinfo=tags, **options)
    else:
        gradient().save(path, exif=exif, **options)
    return path


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", [across, down, Image.new("L", (width, height), 90)])


def packed(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def through(path: Path, kind: str = "png", scale: int = 2) -> Image.Image:
    """Enlarged as a workflow would: upright, then saved with what the photo had."""
    picture = read_picture(path)
    with Image.open(io.BytesIO(picture.data)) as seen:
        upright = ImageOps.exif_transpose(seen).convert("RGB")
    result = upright.resize((upright.width * scale, upright.height * scale))
    target = path.with_name(f"result.{kind}")
    assert save_picture(packed(result), picture, target, kind, 95)[0] == result.size
    saved = Image.open(target)
    saved.load()
    return saved


@pytest.mark.parametrize("source", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_exif_and_icc_are_kept_and_say_the_truth(tmp_path, source, kind) -> None:
    saved = through(save_photo(tmp_path / f"photo.{source}", icc_profile=SRGB), kind)
    assert saved.size == (60, 80)  # turned, then enlarged
    exif = saved.getexif()
    assert exif[Base.Make] == "Maker"
    assert Base.Orientation not in exif and Base.ImageWidth not in exif
    assert exif.get_ifd(IFD.Exif)[Base.DateTimeOriginal] == "2001:02:03 04:05:06"
    assert exif.get_ifd(IFD.Exif)[Base.ExifImageWidth] == 60
    assert exif.get_ifd(IFD.Exif)[Base.ExifImageHeight] == 80
    assert exif.get_ifd(IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    assert saved.info["icc_profile"] == SRGB
    assert ImageOps.exif_transpose(saved).size == saved.size


def test_how_a_tiff_was_stored_is_not_said_of_the_result(tmp_path) -> None:
    path = save_photo(tmp_path / "a.tiff", 1)
    tags = set(through(path).getexif())
    assert tags == {Base.Make, Base.ExifOffset, Base.GPSInfo}


def test_a_thumbnail_of_the_old_picture_is_dropped(tmp_path) -> None:
    exif = camera_exif(1)
    exif.get_ifd(IFD.IFD1)[Base.JpegIFOffset] = 1000
    gradient().save(tmp_path / "a.jpg", exif=exif)
    assert not through(tmp_path / "a.jpg", "jpg").getexif().get_ifd(IFD.IFD1)


def test_a_photo_without_either_gets_neither(tmp_path) -> None:
    gradient().save(tmp_path / "a.png")
    saved = through(tmp_path / "a.png", "jpg")
    assert not saved.getexif() and "icc_profile" not in saved.info


def test_the_file_itself_is_sent_where_comfyui_reads_it_right(tmp_path) -> None:
    gradient().save(tmp_path / "a.jpg", icc_profile=SRGB, exif=camera_exif())
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.data == (tmp_path / "a.jpg").read_bytes() and picture.suffix == ".jpg"
    assert picture.size == (30, 40) and not picture.notes


def test_a_profile_of_another_color_space_is_converted(tmp_path) -> None:
    """Lab, as Pillow can make no profile for gray or CMYK."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert lab[16:20] == b"Lab "
    image = ImageCms.profileToProfile(
        gradient(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    image.save(tmp_path / "a.tiff", icc_profile=lab)
    picture = read_picture(tmp_path / "a.tiff")
    assert picture.icc is None and picture.suffix == ".png"
    assert picture.notes == ("converted from its Lab profile to sRGB",)
    sent = np.asarray(Image.open(io.BytesIO(picture.data)), int)
    assert np.abs(sent - np.asarray(gradient(), int)).mean() < 4  # Lab in 8 bits is coarse
    assert "icc_profile" not in through(tmp_path / "a.tiff").info


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("profile", ["Lab", "cut off", "noise", "RGB of noise"])
def test_a_profile_that_does_not_fit_is_left_out(tmp_path, mode, profile) -> None:
    """Every viewer shows such pictures."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    noise = np.random.default_rng(0).bytes(300)
    icc = {"Lab": lab, "cut off": SRGB[:60], "noise": noise}.get(
        profile, noise[:16] + b"RGB " + noise[20:]
    )
    path = tmp_path / "a.jpg"
    gradient().convert(mode).save(path, icc_profile=icc)
    picture = read_picture(path)
    assert picture.icc is None
    assert picture.notes == ("left out a color profile that is damaged or does not fit its pixels",)
    with Image.open(path) as image, Image.open(io.BytesIO(picture.data)) as sent:
        assert np.array_equal(sent.convert("RGB"), image.convert("RGB"))
    assert "icc_profile" not in through(path).info


def test_the_workflow_in_a_png_stays(tmp_path) -> None:
    gradient().save(tmp_path / "a.jpg")
    said = PngImagePlugin.PngInfo()
    said.add_text("prompt", '{"1": {}}')
    data = io.BytesIO()
    gradient().save(data, "PNG", pnginfo=said)
    target = tmp_path / "b.png"
    save_picture(data.getvalue(), read_picture(tmp_path / "a.jpg"), target, "png", 95)
    assert Image.open(target).text == {"prompt": '{"1": {}}'}  # type: ignore[attr-defined]


def test_quality_is_that_of_the_file(tmp_path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    noise.save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    for kind in ("jpg", "webp"):
        sizes = []
        for quality in (40, 95):
            target = tmp_path / f"{quality}.{kind}"
            save_picture(packed(noise), picture, target, kind, quality)
            sizes.append(target.stat().st_size)
        assert sizes[0] < sizes[1]


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_picture_is_named(tmp_path, data) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(OSError, match=r"^a\.png "):
        read_picture(tmp_path / "a.png")


def test_a_cut_off_photo_is_an_error(tmp_path) -> None:
    gradient(200, 200).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(OSError, match=r"^a\.jpg cannot be read as a picture: .*truncated"):
        read_picture(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("ending", "depth"), [("png", np.uint16), ("tiff", np.uint16), ("tiff", np.int32)]
)
def test_gray_in_16_bits_is_sent_in_8_and_stays_gray(tmp_path, ending, depth) -> None:
    """Load Image would cut its numbers off at 255 and see white."""
    numbers = np.linspace(0, 65535, 256).round().astype(depth).reshape(16, 16)
    Image.fromarray(numbers).save(tmp_path / f"deep.{ending}")
    picture = read_picture(tmp_path / f"deep.{ending}")
    sent = np.asarray(Image.open(io.BytesIO(picture.data)))
    assert np.array_equal(sent, np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert picture.suffix == ".png" and picture.notes == ("sent with 8 of its 16 bits",)
    assert picture.pixels is not None


@pytest.mark.parametrize(
    ("numbers", "black", "white", "words"),
    [
        (
            np.linspace(0.25, 1, 16, dtype=np.float32),
            0,
            1,
            "floating-point numbers are from 0 to 1",
        ),
        (np.linspace(0, 4, 16, dtype=np.float32), 0, 4, "from 0 (black) to 4 (white)"),
        (np.linspace(-2, 2, 16, dtype=np.float32), -2, 2, "from -2 (black) to 2 (white)"),
        (np.linspace(0, 70000, 16).astype(np.int32), 0, 70000, "from 0 (black) to 70000 (white)"),
        (np.full(16, -5, np.int32), -5, 0, "from -5 (black) to 0 (white)"),
        (np.full(16, 70000, np.int32), 0, 70000, "from 0 (black) to 70000 (white)"),
    ],
)
def test_numbers_of_any_range_are_sent_in_8_bits_by_a_rule_that_the_note_states(
    tmp_path, numbers, black, white, words
) -> None:
    Image.fromarray(numbers.reshape(4, 4)).save(tmp_path / "a.tiff")
    picture = read_picture(tmp_path / "a.tiff")
    sent = np.asarray(Image.open(io.BytesIO(picture.data)).convert("L"), int)
    expected = (numbers.reshape(4, 4).astype(float) - black) / (white - black) * 255
    assert np.abs(sent - expected).max() <= 0.5 + 1e-6
    assert words in picture.notes[0] and picture.suffix == ".png"


def test_what_is_no_number_is_black_and_infinity_white(tmp_path) -> None:
    numbers = np.array([[np.nan, np.inf], [-np.inf, 0.5]], np.float32)
    Image.fromarray(numbers).save(tmp_path / "a.tiff")
    picture = read_picture(tmp_path / "a.tiff")
    sent = np.asarray(Image.open(io.BytesIO(picture.data)).convert("L"))
    assert sent.tolist() == [[0, 255], [0, 128]]
    assert "3 that are not finite are black or white" in picture.notes[0]
    Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(tmp_path / "b.tiff")
    with pytest.raises(OSError, match=r"^b\.tiff .*none of its floating-point numbers is finite"):
        read_picture(tmp_path / "b.tiff")


def png(parts: Sequence[tuple[bytes, bytes]], sums: Sequence[int] | None = None) -> bytes:
    """Of kinds and contents of chunks, with their check sums or others."""
    sums = sums or [zlib.crc32(kind + content) for kind, content in parts]
    written = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
        for (kind, content), check in zip(parts, sums, strict=True)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def deep_png(color: int, channels: int) -> bytes:
    """With 16 bits a sample, which Pillow cannot write for colors."""
    numbers = np.full((3, 1 + 4 * channels * 2), 0x12, np.uint8)
    numbers[:, 0] = 0  # no filter
    header = struct.pack(">IIBBBBB", 4, 3, 16, color, 0, 0, 0)
    return png([(b"IHDR", header), (b"IDAT", zlib.compress(numbers.tobytes())), (b"IEND", b"")])


def test_more_than_8_bits_of_colors_are_noted(tmp_path) -> None:
    """Pillow leaves the rest out without a word."""
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    numbers = np.full((3, 4, 3), 0x1212, np.uint16)
    (tmp_path / "rgb.png").write_bytes(deep_png(2, 3))
    (tmp_path / "rgba.png").write_bytes(deep_png(6, 4))
    (tmp_path / "gray_alpha.png").write_bytes(deep_png(4, 2))
    (tmp_path / "rgb.ppm").write_bytes(b"P6 4 3 65535\n" + numbers.tobytes())
    tifffile.imwrite(tmp_path / "raw.tif", numbers, photometric="rgb")
    tifffile.imwrite(tmp_path / "packed.tif", numbers, photometric="rgb", compression="zlib")
    for path in sorted(tmp_path.iterdir()):
        picture = read_picture(path)
        assert picture.notes == ("sent with 8 of its 16 bits",), path.name
        assert picture.pixels is not None
        assert np.array_equal(np.unique(picture.pixels), [0x12]), path.name


def test_eight_bits_are_not_noted(tmp_path) -> None:
    for ending in ("png", "tif", "ppm", "bmp", "jp2", "tga", "webp"):
        gradient().save(tmp_path / f"a.{ending}")
        assert read_picture(tmp_path / f"a.{ending}").notes == (), ending


def test_bits_of_formats_that_say_them_elsewhere(tmp_path) -> None:
    packed = io.BytesIO()
    gradient().save(packed, "JPEG2000")
    data = bytearray(packed.getvalue())
    with Image.open(io.BytesIO(data)) as image:
        assert depth(image, bytes(data)) == 8
        data[data.find(b"\xff\x4f\xff\x51") + 42] = 11  # 12 bits
        assert depth(image, bytes(data)) == 12


@pytest.mark.parametrize("kind", ["jpg", "webp"])
def test_a_deep_result_does_not_become_white(tmp_path, kind) -> None:
    gradient().save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    deep = Image.fromarray(np.full((30, 40), 0x4040, np.uint16))
    save_picture(packed(deep), picture, tmp_path / "b", kind, 95)
    assert np.abs(np.asarray(Image.open(tmp_path / "b").convert("L"), int) - 0x40).max() <= 1
    gray = Image.new("RGB", (40, 30), (0x40, 0x40, 0x40))
    assert lr_psnr(gray, [deep]) == CAP


def see_through(path: Path, **options) -> Path:
    image = gradient()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(path, **options)
    return path


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_transparency_is_put_back_upright_and_enlarged(tmp_path, kind) -> None:
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    saved = through(see_through(tmp_path / "a.png", exif=exif), kind)
    assert saved.mode == "RGBA" and saved.size == (60, 80)
    expected = read_picture(tmp_path / "a.png").alpha
    assert expected is not None and expected.size == (30, 40)
    columns = np.asarray(saved.getchannel("A"), float).mean(0)
    assert columns[0] > 200 and columns[-1] < 55  # what was on top is on the right
    assert np.abs(columns[::2] - np.asarray(expected, float).mean(0)).max() < 6


def test_transparency_of_a_palette_is_put_back(tmp_path) -> None:
    image = Image.new("P", (8, 8))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 4, 8))
    image.save(tmp_path / "a.png", transparency=1)
    saved = through(tmp_path / "a.png", scale=1)
    assert np.array_equal(np.unique(np.asarray(saved.getchannel("A"))), [0, 255])


def test_a_result_with_a_transparency_of_its_own_keeps_it(tmp_path) -> None:
    picture = read_picture(see_through(tmp_path / "a.png"))
    result = gradient()
    result.putalpha(77)
    _, note = save_picture(packed(result), picture, tmp_path / "b.png", "png", 95)
    assert Image.open(tmp_path / "b.png").getchannel("A").getextrema() == (77, 77)
    assert note == "transparency of the photo lost: the result has its own"


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_transparency_is_put_back_into_any_result_that_is_opaque(tmp_path, mode, kind) -> None:
    picture = read_picture(see_through(tmp_path / "a.png"))
    said = PngImagePlugin.PngInfo()
    said.add_text("prompt", "{}")
    data = io.BytesIO()
    gradient().convert(mode).save(data, "PNG", pnginfo=said)
    target = tmp_path / f"b.{kind}"
    assert save_picture(data.getvalue(), picture, target, kind, 95) == ((40, 30), "")
    saved = Image.open(target)
    assert saved.mode == "RGBA" and picture.alpha is not None
    assert np.array_equal(np.asarray(saved.getchannel("A")), np.asarray(picture.alpha))
    if kind == "png":
        assert saved.text == {"prompt": "{}"}  # type: ignore[attr-defined]


def test_where_transparency_is_lost_and_why(tmp_path) -> None:
    picture = read_picture(see_through(tmp_path / "a.png"))
    deep = Image.fromarray(np.full((30, 40), 40000, np.uint16))
    for result, kind, words in (
        (gradient(80, 60), "jpg", "JPEG has none"),
        (gradient(40, 40), "png", "another shape"),
        (deep, "png", "more than 8 bits"),
    ):
        target = tmp_path / f"b.{kind}"
        _, note = save_picture(packed(result), picture, target, kind, 95)
        assert words in note and note.startswith("transparency lost: ")
        assert "A" not in Image.open(target).getbands()
    gradient().convert("RGBA").save(tmp_path / "opaque.png")  # which says nothing
    assert read_picture(tmp_path / "opaque.png").alpha is None


# What is damaged, or lies

CASES = sorted((Path(__file__).parents[1] / "cases" / "pictures").iterdir())
SEED = 0


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_picture_that_broke_something_is_restored_or_named(tmp_path, path, kind) -> None:
    copy = Path(shutil.copy(path, tmp_path))
    if path.name == "case2.jpg":  # an AVIF without its picture
        with pytest.raises(OSError, match=r"^case2\.jpg cannot be read as a picture: .*image item"):
            read_picture(copy)
        return
    saved = through(copy, kind)
    picture = read_picture(copy)
    assert sorted(picture.size) == [32, 48]
    assert saved.size == (2 * picture.size[0], 2 * picture.size[1])
    kept = saved.getexif()  # all the rest is carried over
    assert kept[Base.Make] == "Canon" if path.suffix != ".tif" else "shape" in kept[Base.ImageDescription]  # fmt: skip
    assert bool(picture.notes) == (not path.name.endswith(".tif"))
    assert all("EXIF" in note for note in picture.notes)


def test_a_bigtiff_keeps_its_exif(tmp_path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[Base.Make], tags[Base.Orientation] = "Maker", 6
    gradient().save(tmp_path / "a.tif", tiffinfo=tags, big_tiff=True)
    saved = through(tmp_path / "a.tif", "jpg")
    assert saved.size == (60, 80) and dict(saved.getexif()) == {Base.Make: "Maker"}


def test_text_that_is_not_ascii_stays(tmp_path) -> None:
    """Pillow alone makes question marks of it."""
    exif = Image.Exif()
    exif[Base.Artist] = "Zoë 摄影".encode()
    exif[Base.Copyright] = "©".encode("latin-1")
    exif.get_ifd(IFD.Exif)[Base.LensMake] = "..hler"  # a tag whose type Pillow does not know
    data = exif.tobytes().replace(b"..hler", "Öhler".encode())
    gradient().save(tmp_path / "a.jpg", exif=data)
    again = through(tmp_path / "a.jpg").getexif()
    assert again[Base.Artist].encode("latin-1").decode() == "Zoë 摄影"
    assert again[Base.Copyright] == "©"
    assert again.get_ifd(IFD.Exif)[Base.LensMake].encode("latin-1").decode() == "Öhler"


def test_exif_keeps_its_byte_order_and_the_table_in_its_table(tmp_path) -> None:
    exif = Image.Exif()
    exif.endian = "<"
    exif.get_ifd(IFD.Exif)[Base.UserComment] = b"UNICODE\0" + "ü".encode("utf-16-le")
    exif.get_ifd(IFD.Exif)[IFD.Interop] = {1: "R98"}
    gradient().save(tmp_path / "a.jpg", exif=exif)
    again = through(tmp_path / "a.jpg").getexif()
    assert again.endian == "<" and again.get_ifd(IFD.Interop)[1] == "R98"
    assert again.get_ifd(IFD.Exif)[Base.UserComment] == b"UNICODE\0" + "ü".encode("utf-16-le")


def test_exif_that_is_too_long_for_a_jpeg_is_noted(tmp_path) -> None:
    exif = Image.Exif()
    exif[Base.Make] = "Maker"  # without, Pillow writes none
    exif.get_ifd(IFD.Exif)[Base.MakerNote] = bytes(70000)
    gradient().save(tmp_path / "a.png", exif=exif)
    picture = read_picture(tmp_path / "a.png")
    for kind, words in (("jpg", "EXIF lost: it has 7"), ("webp", "")):
        _, note = save_picture(packed(gradient()), picture, tmp_path / "b", kind, 95)
        assert note.startswith(words) and bool(note) == bool(words)


def test_a_result_that_is_too_large_for_its_format_gets_a_sentence(tmp_path) -> None:
    gradient().save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    for kind, side in (("webp", 16384), ("jpg", 65501)):
        with pytest.raises(OSError, match=f"1x{side} pixels, a {kind} has at most"):
            save_picture(packed(Image.new("L", (1, side))), picture, tmp_path / "b", kind, 95)


@pytest.mark.parametrize("name", sorted(Image.SAVE.keys() & {"AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"}))  # fmt: skip
@pytest.mark.parametrize("ending", [".jpg", ".png", ".heic", ""])
def test_what_is_uploaded_has_the_ending_of_its_content(tmp_path, name, ending) -> None:
    path = tmp_path / f"photo{ending}"
    gradient().save(path, name)
    picture = read_picture(path)
    assert picture.suffix == SENT.get(name, ".png") and not picture.notes
    assert (picture.data == path.read_bytes()) == (name in SENT)
    with Image.open(io.BytesIO(picture.data)) as sent, Image.open(path) as image:
        assert SENT[sent.format or ""] == picture.suffix
        assert np.array_equal(sent.convert("RGB"), image.convert("RGB"))


def test_endings_are_those_that_pillow_opens() -> None:
    assert {".jfif", ".jpe", ".jp2", ".tga", ".apng", ".mpo", ".dib"} < set(EXTENSIONS)
    assert not {".pdf", ".eps", ".ps", ".h5", ".mpg", ".wmf", ".heic", ".txt"} & set(EXTENSIONS)


def test_no_other_program_is_started_for_a_picture(tmp_path) -> None:
    gradient().save(tmp_path / "a.jpg", "EPS")
    with pytest.raises(OSError, match=r"a\.jpg is no picture that can be read"):
        read_picture(tmp_path / "a.jpg")


def test_frames_are_repacked_as_frames(tmp_path) -> None:
    """Equal ones, too, and each as it was."""
    deep = [Image.fromarray(np.full((4, 4), n, np.uint16)) for n in (0, 0, 257 * 9)]
    deep[0].save(tmp_path / "a.tif", save_all=True, append_images=deep[1:])
    picture = read_picture(tmp_path / "a.tif")
    with Image.open(io.BytesIO(picture.data)) as sent:
        means = [np.asarray(frame).mean() for frame in ImageSequence.Iterator(sent)]
    assert means == [0, 0, 9] and picture.suffix == ".tif" and picture.pixels is None
    assert picture.notes == ("sent with 8 of its 16 bits",)


def test_frames_that_can_be_read_are_kept(tmp_path) -> None:
    frames = [Image.effect_noise((32, 32), 99) for _ in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(data[: len(data) * 5 // 6])
    picture = read_picture(tmp_path / "a.gif")
    assert picture.notes == ("only 2 of its frames could be read",)
    with Image.open(io.BytesIO(picture.data)) as sent:
        assert [np.array_equal(a.convert("L"), b) for a, b in zip(ImageSequence.Iterator(sent), frames, strict=False)] == [True, True]  # fmt: skip


def test_one_frame_alone_can_be_asked_for(tmp_path) -> None:
    gradient().save(tmp_path / "a.gif", save_all=True, append_images=[gradient().rotate(90)])
    picture = read_picture(tmp_path / "a.gif", one_frame=True)
    assert picture.notes == ("the first of its 2 frames alone",)
    assert picture.pixels is not None and picture.suffix == ".png"


# Systematic damage


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, repeated, or the end cut off."""
    copy = bytearray(data)
    start = rng.randrange(len(copy))
    how = rng.randrange(4)
    if how == 0:
        del copy[start:]
    elif how == 1:
        del copy[start : start + rng.randrange(1, 9)]
    elif how == 2:
        copy[start:start] = copy[start : start + rng.randrange(1, 9)]
    for _ in range(rng.choice((1, 1, 2, 8)) if how else 0):
        if copy:
            copy[rng.randrange(len(copy))] = rng.choice((0, 255, rng.randrange(256)))
    return bytes(copy)


def rich_exif() -> bytes:
    """With a tag of every type, in every table."""
    exif = camera_exif()
    exif[Base.XResolution], exif[Base.BitsPerSample] = 72.5, (8, 8, 8)
    exif[Base.Artist] = "Zoë".encode()
    inner = exif.get_ifd(IFD.Exif)
    inner[Base.ExposureTime], inner[Base.ExposureBiasValue] = (
        TiffImagePlugin.IFDRational(1, 50),
        TiffImagePlugin.IFDRational(-1, 3),
    )
    inner[Base.MakerNote], inner[Base.ISOSpeedRatings] = b"FUJIFILM\x0c\0\0\0\0\0", 200
    inner[Base.LensSpecification] = (1.5, 2.5, 3.5, 4.5)
    inner[IFD.Interop] = {1: "R98"}
    gps = exif.get_ifd(IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.5)
    gps[ExifTags.GPS.GPSVersionID] = b"\2\3\0\0"
    return exif.tobytes()


def survives(path: Path) -> bool:
    """Whether the picture could be read; then it can be sent, turned and saved as anything."""
    try:
        picture = read_picture(path)
    except OSError as error:
        assert str(error).startswith(path.name) and "\n" not in str(error)
        return False
    with Image.open(io.BytesIO(picture.data)) as sent:
        for frame in ImageSequence.Iterator(sent):  # as Load Image does
            ImageOps.exif_transpose(frame).convert("RGB")
    assert Path(f"x{picture.suffix}").suffix in SENT.values()
    small = packed(Image.new("RGB", (4, 3)))
    for kind in SUFFIXES:
        save_picture(small, picture, path.with_name("result"), kind, 80)
        with Image.open(path.with_name("result")) as saved:
            saved.load()
            ImageOps.exif_transpose(saved)
    return True


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_never_costs_the_picture(tmp_path, name) -> None:
    rng, exif = random.Random(SEED), rich_exif()
    path = tmp_path / "a.photo"
    for _ in range(60):
        gradient(8, 6).save(path, name, exif=exif[:6] + damaged(exif[6:], rng))
        assert survives(path)


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of those of a PNG."""
    found, start = [], 8
    while start < len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        found.append((data[start + 4 : start + 8], data[start + 8 : end]))
        start = end + 4
    return found


@pytest.mark.parametrize("check", ["true", "false"])
def test_what_no_pixel_of_a_png_needs_never_costs_the_picture(tmp_path, check) -> None:
    """Be it damaged before the check sum was made, or after."""
    data = io.BytesIO()
    said = PngImagePlugin.PngInfo()
    said.add_text("Title", "x" * 20, zip=True)
    options = {"icc_profile": SRGB, "exif": rich_exif(), "dpi": (72, 72), "pnginfo": said}
    gradient(8, 6).save(data, "PNG", transparency=(1, 2, 3), **options)
    parts = chunks(data.getvalue())
    sums = [zlib.crc32(kind + content) for kind, content in parts]
    extra = [n for n, (kind, _) in enumerate(parts) if kind[0] & 0x20]
    assert {parts[n][0] for n in extra} == {b"iCCP", b"tRNS", b"pHYs", b"zTXt", b"eXIf"}
    rng, path = random.Random(SEED), tmp_path / "a.png"
    for _ in range(60):
        hit = rng.choice(extra)
        kind, content = parts[hit]
        broken = [*parts[:hit], (kind, damaged(content, rng)), *parts[hit + 1 :]]
        path.write_bytes(png(broken, None if check == "true" else sums))
        assert survives(path)
        assert read_picture(path).pixels is not None


def test_of_a_png_only_the_damaged_part_is_left_out(tmp_path) -> None:
    gradient().save(tmp_path / "a.png", icc_profile=SRGB, exif=camera_exif(1))
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[data.find(b"iCCP") + 30] ^= 255
    (tmp_path / "a.png").write_bytes(data)
    picture = read_picture(tmp_path / "a.png")
    assert picture.notes == ("left out damaged parts of the file (color profile)",)
    assert picture.icc is None and through(tmp_path / "a.png").getexif()[Base.Make] == "Maker"


def example(name: str) -> bytes:
    """A small picture in a format that Pillow writes."""
    options = {"exif": rich_exif()} if name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF") else {}
    for mode in ("RGB", "P", "1"):
        data = io.BytesIO()
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            gradient(16, 16).convert(mode).save(data, name, icc_profile=SRGB, **options)
            return data.getvalue()
    raise AssertionError(f"{name} takes none of these modes")


@pytest.mark.parametrize("name", sorted(Image.SAVE.keys() & set(FORMATS)))
def test_a_damaged_file_is_read_or_named(tmp_path, name) -> None:
    rng, data = random.Random(SEED), example(name)
    path = tmp_path / "a.photo"
    path.write_bytes(data)
    assert survives(path)
    for _ in range(40):
        path.write_bytes(damaged(data, rng))
        survives(path)


# The figure


def test_figure_is_the_psnr_of_numpy_at_the_photos_size() -> None:
    a = gradient()
    b = Image.fromarray(np.asarray(a) // 2)
    error = np.square(np.asarray(a, float) - np.asarray(b, float)).mean()
    assert lr_psnr(a, [b]) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    assert lr_psnr(a, [a]) == CAP
    # Smooth enlargement says the same as the photo, also when one side is rounded.
    enlarged = a.resize((100, 74), Image.Resampling.BICUBIC)
    assert lr_psnr(a, [enlarged]) > 40
    assert lr_psnr(enlarged, [a]) == lr_psnr(a, [enlarged])


def test_figure_is_absent_where_it_would_say_nothing(tmp_path) -> None:
    a = gradient()
    assert lr_psnr(a, [a.crop((0, 0, 40, 20))]) is None
    assert lr_psnr(a, [a, a]) is None and lr_psnr(a, []) is None
    a.save(tmp_path / "two.gif", save_all=True, append_images=[a.rotate(90)])
    assert read_picture(tmp_path / "two.gif").pixels is None
    assert lr_psnr(None, [a]) is None
