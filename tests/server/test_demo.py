"""The demo: its figures, its pictures, and that it does the same without ComfyUI."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

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
    assert demo.psnr(*pair) == pytest.approx(metrics.peak_signal_noise_ratio(reference, image))
    luma = [np.asarray(each.convert("L")) for each in pair]
    expected = metrics.structural_similarity(
        *luma, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert demo.ssim(*pair) == pytest.approx(expected, abs=1e-6)


def test_pictures_fit_together_for_any_size(demo, pair, tmp_path) -> None:
    before, reference = pair
    for size in ((37, 29), (1500, 400)):
        after = reference.resize(size)
        restored = demo.Restored(after, "a test", 0.0)
        demo.report(restored, before, reference, tmp_path, "x")
        assert Image.open(tmp_path / "x_restored.png").size == size
        assert max(Image.open(tmp_path / "x_split.jpg").size) <= demo.THUMBNAIL
        assert Image.open(tmp_path / "x_comparison.png").width == 3 * min(size[0], 640) + 16


def test_a_file_that_is_no_picture_gives_a_sentence(demo, tmp_path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    with pytest.raises(SystemExit, match=r"a\.png is no picture"):
        demo.open_photo(tmp_path / "a.png")
    with pytest.raises(SystemExit, match="There is no file"):
        demo.open_photo(tmp_path / "b.png")


def test_the_restored_photo_is_nearer_to_its_original(demo, pair) -> None:
    before, reference = pair
    after = demo.restore_without_host(before, 0.5).image
    assert after.size == before.size
    assert demo.psnr(after, reference) > demo.psnr(before, reference)
    assert demo.ssim(after, reference) > demo.ssim(before, reference)
    half = demo.restore_without_host(before, 0.75).image
    assert demo.psnr(after, before) < demo.psnr(half, before)
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
    settings = {"LoadImage": {"image": name}, "RestorationFidelity": {"fidelity": fidelity}}
    prompt = demo.with_settings(prompt, settings)
    inside = server.fetch(server.run(prompt).images("output")[0])
    outside = demo.restore_without_host(photo, fidelity).image
    difference = np.asarray(Image.open(io.BytesIO(inside)), int) - np.asarray(outside, int)
    assert np.abs(difference).max() <= 1  # a rounding at the edge of a grey level
