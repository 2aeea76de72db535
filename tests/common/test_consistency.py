from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restoration.common.consistency import HOTTEST, lr_consistency
from restoration.common.metrics import CAP
from restoration.common.resample import resize


def smooth(seed: int, height: int, width: int, rows: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = 0.2 + 0.6 * torch.rand(rows, 3, 5, 5, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0.05, 0.95)


def imresize(row: np.ndarray, length: int) -> np.ndarray:
    """MATLAB's imresize of one line: the cubic of a = -1/2, widened by the scale, mirrored."""
    scale = len(row) / length
    out = np.empty(length)
    for i in range(length):
        center = (i + 0.5) * scale - 0.5
        taps = np.arange(int(np.floor(center - 2 * scale)), int(np.ceil(center + 2 * scale)) + 1)
        d = np.abs(taps - center) / scale
        near = 1.5 * d**3 - 2.5 * d**2 + 1
        far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        weights = np.where(d <= 1, near, np.where(d <= 2, far, 0))
        folded = np.concatenate([row, row[::-1]])[taps % (2 * len(row))]
        out[i] = (weights * folded).sum() / weights.sum()
    return out


@pytest.mark.parametrize("length", [16, 24, 40])
def test_the_downscale_is_matlabs_away_from_the_border(length: int) -> None:
    row = np.random.default_rng(0).random(96)
    pixels = torch.from_numpy(row).view(1, 1, 1, 96).expand(1, 3, 8, 96)
    small = resize(pixels, 8, length)[0, 0, 0].numpy()
    assert np.allclose(small[2:-2], imresize(row, length)[2:-2], atol=1e-9)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_result_that_says_the_same_is_capped_and_marks_nothing(scale: int) -> None:
    result = smooth(0, 48, 64) + 0.05 * torch.rand(1, 3, 48, 64)
    found = lr_consistency(result, resize(result, 48 // scale, 64 // scale))
    assert found.psnr.tolist() == [CAP] and found.psnr.dtype == torch.float64
    assert not found.difference.any() and not found.heatmap().any()
    assert not found.mask(0.0).any() and not found.mask(0.0, 5.0).any()


def test_rounding_the_input_to_8_bits_stays_below_one_level() -> None:
    result = smooth(1, 64, 64)
    lr = resize(result, 16, 16).mul(255).round().div(255)
    found = lr_consistency(result, lr)
    assert found.difference.max() <= 0.5 + 1e-3 and found.psnr.item() > 55
    assert not found.mask(1.0).any()


def test_an_invented_patch_is_found_where_it_is() -> None:
    honest = smooth(2, 128, 160)
    lr = resize(honest, 32, 40)
    invented = honest.clone()
    place = torch.zeros(1, 128, 160, dtype=torch.bool)
    place[:, 40:72, 88:136] = True
    invented[:, 1][place] += 0.25
    found = lr_consistency(invented, lr)
    mask = found.mask(16.0)
    assert mask.shape == (1, 128, 160) and set(mask.unique().tolist()) == {0.0, 1.0}
    marked = mask.bool()
    assert (marked & place).sum() / (marked | place).sum() > 0.85
    assert mask[:, 44:68, 92:132].all(), "all of it but for its rim"
    far = F.max_pool2d(place.float(), 33, 1, 16).bool()
    assert not found.difference[:, 0][~far].any(), "nothing beyond the kernel's reach"
    assert not found.heatmap().movedim(1, -1)[~far].any()
    inside = found.heatmap()[0, :, 56, 112]
    assert inside.max() > 0.5 and inside[0] > inside[2], "63 levels are orange to white"
    assert 20 < found.psnr.item() < lr_consistency(honest, lr).psnr.item()


def test_detail_that_averages_away_is_no_contradiction() -> None:
    """What a restoration may add freely: texture that the input could not hold."""
    result = smooth(3, 64, 64)
    lr = resize(result, 16, 16)
    checker = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 - 0.5) * 0.1
    found = lr_consistency(result + checker, lr)
    assert found.difference[..., 8:-8, 8:-8].max() < 0.5 and found.psnr.item() > 50


def test_difference_and_threshold_are_in_8_bit_levels() -> None:
    lr = torch.full((1, 3, 10, 12), 0.4)
    result = torch.full((1, 3, 40, 48), 0.4)
    result[:, 2] -= 10 / 255
    found = lr_consistency(result, lr)
    assert torch.allclose(found.difference, torch.full_like(found.difference, 10), atol=1e-3)
    assert found.psnr.item() == pytest.approx(10 * np.log10(3 * 25.5**2), abs=1e-3)
    assert found.mask(9.9).all() and not found.mask(10.1).any()
    assert found.mask(8.0, 4.0).mean().item() == pytest.approx(0.5, abs=1e-3)
    assert found.mask(8.0, 1.0).all() and not found.mask(11.0, 4.0).any()


def test_the_difference_fades_between_the_pixels_of_the_input() -> None:
    lr = torch.zeros(1, 3, 1, 2)
    result = torch.cat([torch.zeros(1, 3, 40, 40), torch.full((1, 3, 40, 40), 0.2)], -1)
    row = lr_consistency(result, lr).difference[0, 0, 0]
    assert (row.diff() >= 0).all() and (row.diff()[20:59] > 0).all()


def test_the_heatmap_grows_lighter_and_ends_white() -> None:
    steps = torch.linspace(0, 1.25 * HOTTEST, 100) / 255
    lr = torch.zeros(1, 3, 1, 100)
    heat = lr_consistency(steps.view(1, 1, 1, 100).expand(1, 3, 1, 100), lr).heatmap()[0, :, 0]
    assert not heat[:, 0].any() and torch.allclose(heat[:, 80:], torch.ones(3, 20))
    assert (heat.sum(0).diff() > -1e-6).all() and heat.min() >= 0 and heat.max() <= 1


def test_a_coarser_comparison_averages_the_inputs_noise() -> None:
    result = smooth(4, 128, 128)
    noisy = resize(result, 64, 64)
    noisy = noisy + 0.06 * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(0))
    fine, coarse = (lr_consistency(result, noisy, d) for d in (1.0, 4.0))
    assert coarse.psnr.item() > fine.psnr.item() + 8
    assert coarse.difference.max() < 0.5 * fine.difference.max()
    assert coarse.difference.shape == (1, 1, 128, 128)
    assert lr_consistency(result, noisy, 1000.0).difference.shape == (1, 1, 128, 128)


def test_a_batch_is_its_pictures() -> None:
    results, lr = smooth(5, 40, 56, rows=2), smooth(6, 10, 14, rows=2)
    together = lr_consistency(results, lr)
    for row in range(2):
        alone = lr_consistency(results[row : row + 1], lr[row : row + 1])
        assert torch.allclose(alone.difference[0], together.difference[row], atol=1e-4)
        assert alone.psnr.item() == pytest.approx(together.psnr[row].item())


def test_sizes_that_were_rounded_meet_and_others_get_a_sentence() -> None:
    lr_consistency(torch.rand(1, 3, 67, 105), torch.rand(1, 3, 45, 70))
    lr_consistency(torch.rand(1, 3, 7, 7), torch.rand(1, 3, 1, 1))
    with pytest.raises(ValueError, match=r"`result` is 20x10, `lr` is 40x20: .*swapped"):
        lr_consistency(torch.rand(1, 3, 10, 20), torch.rand(1, 3, 20, 40))
    with pytest.raises(ValueError, match=r"`result` is 80x40, `lr` is 20x20: .*not the same shape"):
        lr_consistency(torch.rand(1, 3, 40, 80), torch.rand(1, 3, 20, 20))
