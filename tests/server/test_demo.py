"""The demo: its figures, its pictures, and that it does the same without ComfyUI."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import ExifTags, Image

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("demo")


@pytest.fixture
def pair() -> tuple[Image.Image, Image.Image]:
    folder = ROOT / "scripts" / "photo"
    degraded, reference = (Image.open(folder / f"{n}.jpg") for n in ("degraded", "reference"))
    return degraded.convert("RGB"), reference.convert("RGB")


def test_figures_are_those_of_scikit_image(demo, pair) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    image, reference = (np.asarray(each) for each in pair)
    assert demo.rgb_psnr(*pair) == pytest.approx(metrics.peak_signal_noise_ratio(reference, image))
    luma = [np.asarray(each.convert("L")) for each in pair]
    expected = metrics.structural_similarity(
        *luma, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert demo.ssim(*pair) == pytest.approx(expected, abs=1e-6)


def test_pictures_fit_together_for_any_size(demo, pair) -> None:
    before, reference = pair
    for size in ((37, 29), (1500, 400), (7, 5), (1000, 1)):
        after = reference.resize(size)
        restored = demo.Restored(demo.packed(after, "PNG"), "a test", 0.0)
        comparison, split = demo.compare(restored, before, reference)
        assert max(Image.open(io.BytesIO(split)).size) <= demo.THUMBNAIL
        assert Image.open(io.BytesIO(comparison)).width == 3 * min(size[0], 640) + 16


@pytest.fixture
def run(demo, monkeypatch, tmp_path) -> Callable[..., int]:
    """The command, on what lies in an empty folder; what it computes is the photo as it was."""
    calls = []

    def as_it_was(photo: Image.Image, fidelity: float):
        calls.append(photo)
        return demo.Restored(demo.packed(photo, "PNG"), "a test", 0.0)

    monkeypatch.setattr(demo, "restore_without_host", as_it_was)
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["demo.sh", "--without-comfyui", *words])
        before = contents(tmp_path)
        calls.clear()
        code = demo.main()
        if code == 2:  # refused before anything ran, and nothing has changed
            assert not calls and contents(tmp_path) == before
        return code

    return command


def contents(folder: Path) -> dict[bytes, bytes]:
    """Name -> what is in it, of all files but the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".lock" not in path.name]
    return {os.fsencode(path): path.read_bytes() for path in files}


def photo(path: str | Path, level: int = 90) -> Path:
    image = Image.new("RGB", (16, 12), (level, 60, 30))
    image.save(path, {".jpg": "JPEG", ".png": "PNG"}[Path(path).suffix])
    return Path(path)


def test_a_rerun_replaces_what_the_demo_made(run) -> None:
    photo("a.png")
    assert run("a.png", "--output", "out") == 0
    assert run("a.png", "--output", "out") == 0
    assert {name for name in os.listdir("out") if not name.startswith(".")} == {
        "a_restored.png",
        "a_comparison.png",
        "a_split.jpg",
        "manifest.jsonl",
    }


def test_the_photo_and_its_reference_are_never_replaced(run, capsys) -> None:
    photo("a.png")
    assert run("a.png", "--output", "a.png") == 2  # a file
    Path("out").mkdir()
    for link in (os.symlink, os.link):
        link(Path("a.png").resolve(), "out/a_restored.png")
        assert run("a.png", "--output", "out") == 2
        assert "is a.png, which is read" in capsys.readouterr().err
        Path("out/a_restored.png").unlink()
    assert run("a.png", "--output", "out") == 0
    # What the demo made itself is no one else's, but here it is read.
    assert run("a.png", "--reference", "out/a_restored.png", "--output", "out") == 2


@pytest.mark.parametrize("what", ["restored.png", "comparison.png", "split.jpg"])
def test_a_file_that_the_demo_did_not_make_stays(run, capsys, what) -> None:
    photo("a.png")
    Path("out").mkdir()
    Path(f"out/a_{what}").write_bytes(b"somebody's")
    assert run("a.png", "--output", "out") == 2
    assert f"a_{what} is there, and no line of manifest.jsonl made it" in capsys.readouterr().err
    Path(f"out/a_{what}").unlink()
    Path(f"out/a_{what}").symlink_to("nowhere")
    assert run("a.png", "--output", "out") == 2


def test_a_result_that_was_changed_stays_unless_it_is_said(run) -> None:
    photo("a.png")
    assert run("a.png", "--output", "out") == 0
    photo("out/a_restored.png", level=7)
    assert run("a.png", "--output", "out") == 2
    assert run("a.png", "--output", "out", "--again") == 0


def test_a_result_of_another_photo_of_that_name_stays(run) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
        photo(f"{folder}/a.png")
        photo(f"{folder}/a.png", level=len(folder) if folder == "one" else 200)
    assert run("one/a.png", "--output", "out") == 0
    assert run("two/a.png", "--output", "out") == 2


@pytest.mark.parametrize("stem", ["x" * 251, "ü" * 125, "摄" * 83])
def test_a_name_of_the_full_length_comes_back_shorter(run, stem) -> None:
    os.rename(photo("a.jpg"), f"{stem}.jpg")
    assert run(f"{stem}.jpg", "--output", "out") == 0
    names = [name for name in os.listdir("out") if name.startswith(stem[:60])]
    assert len(names) == 3 and all(name.isprintable() for name in names)
    other = stem[:-1] + "y"
    os.rename(f"{stem}.jpg", f"{other}.jpg")
    assert run(f"{other}.jpg", "--output", "out") == 0
    assert len([name for name in os.listdir("out") if name.startswith(stem[:60])]) == 6


def test_a_name_that_is_not_utf_8(run, capsys) -> None:
    name = os.fsdecode(b"caf\351.png")
    try:
        os.rename(photo("a.png"), name)
    except OSError:
        pytest.skip("this file system takes no such names")
    assert run(name, "--output", "out") == 0
    assert b"caf\351_restored.png" in os.listdir(b"out")
    capsys.readouterr().out.encode()
    assert run(name, "--output", "out") == 0  # the manifest knows it again


def test_what_cannot_be_read_gets_a_sentence(run, capsys) -> None:
    Path("a.png").write_text("not a picture")
    for name, words in (
        ("a.png", "a.png is no picture"),
        ("b.png", "b.png cannot be read: No such"),
    ):
        assert run(name, "--output", "out") == 1
        assert capsys.readouterr().err.startswith(words)
        assert not Path("out").exists()


def test_the_result_has_what_the_photo_had(run, capsys) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Maker", 6
    image = Image.new("RGBA", (16, 12), (200, 60, 30, 99))
    image.save("a.png", exif=exif)
    assert run("a.png", "--output", "out") == 0
    with Image.open("out/a_restored.png") as saved:
        assert saved.size == (12, 16) and saved.getexif()[ExifTags.Base.Make] == "Maker"
        assert saved.getpixel((3, 3)) == (200, 60, 30, 99)
    assert "Note" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (np.full((12, 16), 0x4040, np.uint16), "sent with 8 of its 16 bits"),
        (np.full((12, 16), 0x40 / 255, np.float32), "floating-point numbers are from 0 to 1"),
    ],
)
def test_deep_photos_are_neither_white_nor_black(run, capsys, numbers, words) -> None:
    Image.fromarray(numbers).save("a.tiff")
    assert run("a.tiff", "--output", "out") == 0
    with Image.open("out/a_restored.png") as saved:
        assert saved.convert("L").getextrema() == (0x40, 0x40)
    assert words in capsys.readouterr().out


def test_of_several_frames_the_first_is_restored(run, capsys) -> None:
    frames = [Image.new("RGB", (16, 12), color) for color in ("red", "blue")]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    assert run("a.gif", "--output", "out") == 0
    assert "Note: the first of its 2 frames alone" in capsys.readouterr().out
    with Image.open("out/a_restored.png") as saved:
        assert saved.getpixel((0, 0)) == (255, 0, 0)


def test_the_restored_photo_is_nearer_to_its_original(demo, pair) -> None:
    before, reference = pair
    after = demo.restore_without_host(before, 0.5).image
    assert after.size == before.size
    assert demo.rgb_psnr(after, reference) > demo.rgb_psnr(before, reference)
    assert demo.ssim(after, reference) > demo.ssim(before, reference)
    half = demo.restore_without_host(before, 0.75).image
    assert demo.rgb_psnr(after, before) < demo.rgb_psnr(half, before)
    photo = np.asarray(demo.restore_without_host(before, 1.0).image, int)
    assert np.abs(photo - np.asarray(before, int)).max() <= 1


@pytest.mark.server
@pytest.mark.parametrize("fidelity", [0.5, 0.8])
def test_without_comfyui_the_result_is_the_same(demo, server, pair, fidelity) -> None:
    photo = pair[0].crop((100, 60, 261, 190))
    packed = io.BytesIO()
    photo.save(packed, "PNG")
    prompt = demo.read_prompt(demo.WORKFLOW)
    name = server.upload(packed.getvalue(), "same.png")
    settings = {key: {"image": name} for key in demo.LOADS}
    settings["RestorationFinish"] = {"fidelity": fidelity}
    prompt = demo.with_settings(prompt, settings)
    inside = server.fetch(server.run(prompt).images("output")[0])
    outside = demo.restore_without_host(photo, fidelity).image
    difference = np.asarray(Image.open(io.BytesIO(inside)), int) - np.asarray(outside, int)
    assert np.abs(difference).max() <= 1  # a rounding at the edge of a gray level
