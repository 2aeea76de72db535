"""PSNR and SSIM against scikit-image, where the definitions coincide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restoration.common.metrics import (
    CAP,
    luma,
    luma_psnr,
    luma_ssim,
    papers_luma_ssim,
    psnr,
    ssim,
)

skimage = pytest.importorskip("skimage", reason="the figures are compared with scikit-image")


def picture(seed: int, height: int, width: int, noise: float = 0.0) -> torch.Tensor:
    """A smooth 8-bit picture, with noise on request: 1 3 H W."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 6, 6), dtype=np.float32))
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    grain = torch.from_numpy(np.random.default_rng(9).standard_normal(image.shape, np.float32))
    return (image + noise * grain).mul(255).round().clamp(0, 255).div(255)


def y_of(image: torch.Tensor, crop: int = 0) -> np.ndarray:
    from skimage.color import rgb2ycbcr

    y = rgb2ycbcr(image[0].movedim(0, -1).double().numpy())[..., 0]
    return y[crop : y.shape[0] - crop, crop : y.shape[1] - crop]


def test_luma_is_matlabs_before_rounding() -> None:
    image = picture(0, 20, 30, 0.1)
    assert np.abs(luma(image)[0, 0].numpy() - y_of(image)).max() < 1e-5
    ends = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert luma(ends).flatten().tolist() == pytest.approx([16, 235])
    assert luma(ends).dtype == torch.float64
    red, green, blue = (luma(torch.eye(3)[c].view(1, 3, 1, 1)).item() for c in range(3))
    # MATLAB's documented uint8 values of pure red, green and blue.
    assert [round(red), round(green), round(blue)] == [81, 145, 41]


@pytest.mark.parametrize("size", [(11, 11), (12, 40), (63, 48)])
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_both_equal_scikit_image(size: tuple[int, int], noise: float) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    clean, bad = picture(1, *size), picture(1, *size, noise)
    for crop in (0, 4):
        if min(size) - 2 * crop < 11:
            continue
        x, y = y_of(clean, crop), y_of(bad, crop)
        expected = peak_signal_noise_ratio(x, y, data_range=255)
        assert luma_psnr(bad, clean, crop).item() == pytest.approx(expected, abs=1e-6)
        expected = structural_similarity(
            x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert luma_ssim(bad, clean, crop).item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("crop", [0, 3])
@pytest.mark.parametrize("contrast", [0.8, -0.5])
def test_ssim_of_papers_is_the_formula_with_rounded_luma_and_no_negative_structure(
    crop: int, contrast: float
) -> None:
    """A negative contrast makes edges run against those of the original."""
    from scipy.signal import convolve2d

    clean = picture(1, 31, 44, 0.05)
    bad = ((clean - 0.5) * contrast + 0.5 + 0.1 * torch.randn_like(clean)).clamp(0, 1)
    window = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    window = np.outer(window, window) / window.sum() ** 2
    x, y = (np.round(y_of(each.mul(255).round() / 255, crop)) for each in (bad, clean))
    mx, my, xx, yy, xy = (
        convolve2d(each, window, mode="valid") for each in (x, y, x * x, y * y, x * y)
    )
    c1, c2 = 2.55**2, 7.65**2
    structure = (2 * (xy - mx * my) + c2) / (xx - mx**2 + yy - my**2 + c2)
    expected = (2 * mx * my + c1) / (mx**2 + my**2 + c1) * structure.clip(min=0)
    found = papers_luma_ssim(bad, clean, crop).item()
    assert found == pytest.approx(expected.mean(), abs=1e-9)
    # Both matter: rounding always, and the other one here much more.
    difference = found - luma_ssim(bad, clean, crop).item()
    assert difference > 0.01 if contrast < 0 else 1e-6 < abs(difference) < 0.01


@pytest.mark.parametrize("peak", [1, 255])
def test_over_all_channels_both_equal_scikit_image(peak: int) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    clean, bad = (picture(4, 30, 41, noise).double() * peak for noise in (0, 0.1))
    x, y = (each[0].movedim(0, -1).numpy() for each in (clean, bad))
    expected = peak_signal_noise_ratio(x, y, data_range=peak)
    assert psnr(bad, clean, peak).item() == pytest.approx(expected, abs=1e-6)
    expected = structural_similarity(
        x, y, data_range=peak, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        channel_axis=-1,
    )  # fmt: skip
    assert ssim(bad, clean, peak).item() == pytest.approx(expected, abs=1e-8)


def test_whole_numbers_do_not_wrap_around() -> None:
    dark, light = (torch.full((1, 3, 4, 4), v, dtype=torch.uint8) for v in (10, 250))
    assert psnr(dark, light, 255).item() == pytest.approx(20 * np.log10(255 / 240))


def test_an_offset_has_its_textbook_value() -> None:
    """10 levels in all channels are 10 * 219 / 255 on the limited scale."""
    gray = torch.full((1, 3, 16, 16), 100 / 255)
    other = torch.full((1, 3, 16, 16), 110 / 255)
    step = 10 * 219 / 255
    assert luma_psnr(other, gray).item() == pytest.approx(20 * np.log10(255 / step), abs=1e-6)
    y1, y2 = 16 + 219 * 100 / 255, 16 + 219 * 110 / 255
    c1 = 2.55**2
    assert luma_ssim(other, gray).item() == pytest.approx((2 * y1 * y2 + c1) / (y1**2 + y2**2 + c1))


def test_equal_pictures_are_capped_and_files_are_what_is_measured() -> None:
    clean = picture(2, 32, 32).clamp(0.1, 0.9).mul(255).round().div(255)
    for same in (clean, clean + 0.4 / 255):  # less than the rounding of a file
        assert luma_psnr(same, clean).item() == CAP
        assert luma_ssim(same, clean).item() == pytest.approx(1, abs=1e-12)
    above = torch.where(clean > 0.5, torch.tensor(1.7), torch.tensor(-0.3))
    assert luma_psnr(above, above.clamp(0, 1)).item() == CAP


def test_color_at_equal_luma_is_not_seen_and_channels_are_not_swapped() -> None:
    gray = torch.full((1, 3, 16, 16), 120 / 255)
    red, blue = gray.clone(), gray.clone()
    red[:, 0] += 20 / 255
    blue[:, 2] += 20 / 255
    assert luma_psnr(blue, gray) > luma_psnr(red, gray) + 8  # 65.481 against 24.966


def test_a_batch_is_its_pictures() -> None:
    clean = torch.cat([picture(s, 24, 30) for s in range(3)])
    bad = torch.cat([picture(s, 24, 30, 0.05 * (s + 1)) for s in range(3)])
    for figure in (luma_psnr, luma_ssim):
        alone = [figure(b[None], c[None]).item() for b, c in zip(bad, clean, strict=True)]
        assert figure(bad, clean).tolist() == pytest.approx(alone, abs=1e-12)
        assert alone[0] > alone[1] > alone[2]
        assert figure(bad, clean).dtype == torch.float64


def test_cropping_leaves_out_exactly_the_border() -> None:
    clean = picture(3, 40, 40)
    framed = clean.clone()
    framed[..., :4, :], framed[..., -4:, :], framed[..., :4], framed[..., -4:] = 0, 0, 1, 1
    assert luma_psnr(framed, clean, 4).item() == CAP and luma_psnr(framed, clean, 3) < 40


@pytest.mark.parametrize("figure", [luma_psnr, luma_ssim])
def test_what_cannot_be_compared_gets_a_sentence(figure) -> None:
    with pytest.raises(ValueError, match="`image` is 20x16, `reference` is 22x16"):
        figure(torch.rand(1, 3, 16, 20), torch.rand(1, 3, 16, 22))
    with pytest.raises(ValueError, match="10x20 pixels are left after cropping 5"):
        figure(torch.rand(1, 3, 30, 20), torch.rand(1, 3, 30, 20), 5)


def test_pictures_smaller_than_the_window_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="10x20 pixels; SSIM's window needs 11x11"):
        ssim(torch.rand(1, 3, 20, 10), torch.rand(1, 3, 20, 10), 1)
    for figure in (psnr, ssim):
        with pytest.raises(ValueError, match="`image` is 20x16, `reference` is 22x16"):
            figure(torch.rand(1, 3, 16, 20), torch.rand(1, 3, 16, 22), 1)
