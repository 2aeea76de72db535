"""EXIF and ICC on their way through, and the figure in the manifest."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin
from PIL.ExifTags import IFD, Base

from restoration.tools.folder.pictures import (
    BEST_PSNR,
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


def test_a_profile_that_does_not_fit_is_an_error_of_the_picture(tmp_path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    gradient().save(tmp_path / "a.png", icc_profile=lab)
    with pytest.raises(OSError, match="profile does not fit its pixels"):
        read_picture(tmp_path / "a.png")


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


def test_numbers_without_a_known_range_are_refused(tmp_path) -> None:
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "a.tiff")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "b.tiff")
    for name, words in (("a", "from 0.5 to 0.5 in mode F"), ("b", "from 70000 to 70000 in mode I")):
        with pytest.raises(OSError, match=rf"^{name}\.tiff .*{words}, expected 8 or 16 bits"):
            read_picture(tmp_path / f"{name}.tiff")


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


# The figure


def test_figure_is_the_psnr_of_numpy_at_the_photos_size() -> None:
    a = gradient()
    b = Image.fromarray(np.asarray(a) // 2)
    error = np.square(np.asarray(a, float) - np.asarray(b, float)).mean()
    assert lr_psnr(a, [b]) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    assert lr_psnr(a, [a]) == BEST_PSNR
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
