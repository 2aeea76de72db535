from __future__ import annotations

import pytest
import torch

from restoration.common.color import (
    adain,
    correct_color,
    lab_color_fix,
    wavelet_color_fix,
    wavelet_decomposition,
)

METHODS = ["none", "wavelet", "adain", "lab"]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 17)])
def test_high_and_low_add_up_to_the_image(size: tuple[int, int]) -> None:
    pixels = torch.rand(2, 3, *size)
    high, low = wavelet_decomposition(pixels)
    assert torch.allclose(high + low, pixels, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_corrected_by_itself_stays(method) -> None:
    pixels = torch.rand(2, 3, 20, 24)
    assert torch.allclose(correct_color(pixels, pixels, method), pixels, atol=2e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (16, 16)])
def test_flat_and_black_pictures_give_no_nan(method, level: float, size) -> None:
    flat = torch.full((1, 3, *size), level)
    for pixels, reference in ((flat, torch.rand(1, 3, 7, 5)), (torch.rand(1, 3, *size), flat)):
        assert torch.isfinite(correct_color(pixels, reference, method)).all()


@pytest.mark.parametrize("method", ["wavelet", "adain", "lab"])
def test_a_cast_is_removed_with_a_reference_of_another_size(method) -> None:
    photo = torch.rand(1, 3, 8, 8).repeat_interleave(8, -1).repeat_interleave(8, -2)
    photo = 0.3 + 0.4 * photo
    cast = photo * torch.tensor([1.15, 0.9, 0.95]).view(1, 3, 1, 1)
    half = torch.nn.functional.interpolate(photo, scale_factor=0.5, mode="area")
    corrected = correct_color(cast, half, method)
    before, after = (
        (p.mean((-2, -1)) - photo.mean((-2, -1))).abs().max() for p in (cast, corrected)
    )
    assert after < before / 2


def test_lab_keeps_the_lightness() -> None:
    from kornia.color import rgb_to_lab

    pixels, reference = 0.3 + 0.4 * torch.rand(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)
    fixed = lab_color_fix(pixels, reference)
    assert torch.allclose(rgb_to_lab(fixed)[:, :1], rgb_to_lab(pixels)[:, :1], atol=1.0)


def test_adain_gives_the_statistics_of_the_style() -> None:
    content, style = torch.rand(2, 3, 20, 30), 0.2 + 0.1 * torch.rand(2, 3, 9, 9)
    result = adain(content, style)
    assert torch.allclose(result.mean((-2, -1)), style.mean((-2, -1)), atol=1e-5)
    assert torch.allclose(result.std((-2, -1)), style.std((-2, -1)), atol=1e-3)


def test_detail_finer_than_the_wavelet_comes_from_the_picture() -> None:
    checker = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    pixels = checker.float().expand(1, 3, 64, 64)
    fixed = wavelet_color_fix(pixels, torch.full((1, 3, 64, 64), 0.25))
    assert torch.allclose(fixed, pixels - 0.25, atol=0.02)  # the edges are replicated


def test_an_unknown_method_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="choose none, wavelet, adain or lab"):
        correct_color(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4), "magic")  # type: ignore


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_goes_through_image_by_image(method, monkeypatch) -> None:
    """Frames of a video: the work in between must not grow with their number."""
    from restoration.common import color

    pixels, reference = torch.rand(3, 3, 20, 24), torch.rand(3, 3, 20, 24)
    alone = [
        correct_color(pixels[i : i + 1], reference[i : i + 1], method) for i in range(len(pixels))
    ]
    seen: list[int] = []
    for name in ("wavelet_color_fix", "adain", "lab_color_fix"):
        original = getattr(color, name)

        def watched(pixels, reference, *levels, original=original):
            seen.append(len(pixels))
            return original(pixels, reference, *levels)

        monkeypatch.setattr(color, name, watched)
    together = correct_color(pixels, reference, method)
    assert torch.equal(together, torch.cat(alone))
    assert set(seen) == (set() if method == "none" else {1}) and len(seen) in (0, 3, 6)
