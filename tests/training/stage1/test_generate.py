"""The picture generator and the training pairs: same seed, same pixels; sane values."""

import numpy as np
import pytest

from restoration.training.stage1 import degrade, generate, materials

SIZE = 96


@pytest.mark.parametrize("maker", [m for m, _ in materials.MATERIALS], ids=lambda m: m.__name__)
def test_materials_are_finite_and_full_size(maker):
    image = maker(np.random.default_rng(3), SIZE)
    assert image.shape == (SIZE, SIZE, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0


def test_a_seed_always_gives_the_same_picture():
    for seed in range(4):
        first = generate.generate(seed, SIZE)
        assert first.dtype == np.uint8
        assert first.shape == (SIZE, SIZE, 3)
        assert np.array_equal(first, generate.generate(seed, SIZE))
    assert not np.array_equal(first, generate.generate(99, SIZE))


@pytest.mark.parametrize("size", [64, 97, 160])
def test_many_seeds_at_several_sizes_give_pictures(size):
    pictures = np.stack([generate.generate(seed, size) for seed in range(100, 112)])
    assert pictures.shape == (12, size, size, 3)
    assert 20 < pictures.mean() < 235
    assert pictures.std() > 20


def test_channels_are_strongly_correlated_as_in_photographs():
    pictures = np.stack([generate.generate(seed, SIZE) for seed in range(24)]).astype(np.float64)
    red, green, blue = pictures.reshape(-1, 3).T
    assert np.corrcoef(red, green)[0, 1] > 0.6
    assert np.corrcoef(green, blue)[0, 1] > 0.6


def test_spectral_field_has_its_slope():
    rng = np.random.default_rng(0)
    size, slope = 256, 1.2
    power = np.abs(np.fft.fft2(materials.spectral_field(rng, size, size, slope))) ** 2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    low = power[(radius > 0.04) & (radius < 0.05)].mean()
    high = power[(radius > 0.4) & (radius < 0.5)].mean()
    assert np.log10(low / high) == pytest.approx(2 * slope * np.log10(0.45 / 0.045), abs=0.15)


@pytest.mark.parametrize("mode", degrade.MODES)
def test_pairs_are_patches_of_the_same_place(mode):
    image = generate.generate(7, SIZE)
    for seed in range(6):
        bad, clean = degrade.training_pair(np.random.default_rng(seed), image, 64, mode)
        again, _ = degrade.training_pair(np.random.default_rng(seed), image, 64, mode)
        assert bad.shape == clean.shape == (64, 64, 3)
        assert bad.dtype == clean.dtype == np.uint8
        assert np.array_equal(bad, again)
        difference = bad.astype(float) - clean
        assert abs(difference.mean()) < 12  # no shift of brightness
        if mode == "clean":
            assert not difference.any()


def test_degrading_does_not_touch_its_input():
    image = generate.generate(8, SIZE)
    before = image.copy()
    degrade.training_pair(np.random.default_rng(0), image, 64)
    assert np.array_equal(image, before)


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(ValueError, match="nearly clean"):
        degrade.degrade(np.random.default_rng(0), np.zeros((8, 8, 3), np.uint8), "rain")


def test_shares_sum_to_one_and_keep_a_good_part_clean():
    assert sum(degrade.SHARES) == pytest.approx(1)
    assert sum(degrade.SOFT_SHARES) == pytest.approx(1)
    kept = {"clean", "nearly clean"}
    sharp, soft = (
        sum(share for mode, share in zip(degrade.MODES, shares, strict=True) if mode in kept)
        for shares in (degrade.SHARES, degrade.SOFT_SHARES)
    )
    assert sharp < soft  # what is soft is right more often than what is sharp is whole
    assert 0.15 <= sharp + degrade.SOFT_SHARE * (soft - sharp) <= 0.35


def test_blur_is_to_go_and_of_some_of_the_mixed_only_noise_and_jpeg(monkeypatch):
    image = generate.generate(7, SIZE)
    monkeypatch.setattr(degrade, "FLAT_SHARE", 0.0)
    monkeypatch.setattr(degrade, "MIXED_LEFT_SOFT", 1.0)

    def sharpness(picture):
        return np.abs(np.diff(picture.astype(float), axis=1)).mean()

    soft = []
    for seed in range(8):
        blurred, before = degrade.training_pair(np.random.default_rng(seed), image, 64, "blur")
        assert sharpness(blurred) < 0.95 * sharpness(before)
        bad, left = degrade.training_pair(np.random.default_rng(seed), image, 64, "mixed")
        assert not np.array_equal(bad, left)
        monkeypatch.setattr(degrade, "MIXED_LEFT_SOFT", 0.0)
        again, sharp = degrade.training_pair(np.random.default_rng(seed), image, 64, "mixed")
        monkeypatch.setattr(degrade, "MIXED_LEFT_SOFT", 1.0)
        assert np.array_equal(bad, again)
        soft.append(sharpness(left) / sharpness(sharp))
    assert np.mean(soft) < 0.8


def test_a_third_of_the_pairs_is_rough_in_a_part(monkeypatch):
    image, strengths = generate.generate(7, SIZE), []
    monkeypatch.setattr(
        degrade, "add_texture", lambda rng, area, strength: strengths.append(strength) or area
    )
    for seed in range(200):
        degrade.training_pair(np.random.default_rng(seed), image, 32, "clean")
    assert 45 <= len(strengths) <= 90
    assert 2 <= min(strengths) < 4 and 18 < max(strengths) <= 25


def test_a_share_of_the_pairs_is_flat_and_stays_so_when_clean():
    image = generate.generate(7, SIZE)
    flat = 0
    for seed in range(200):
        bad, clean = degrade.training_pair(np.random.default_rng(seed), image, 32, "clean")
        if len(np.unique(clean.reshape(-1, 3), axis=0)) <= 2:
            flat += 1
            assert np.array_equal(bad, clean)
    assert 4 <= flat <= 24


def test_resampled_pictures_lose_detail_and_keep_their_place():
    rng = np.random.default_rng(0)
    image = np.zeros((96, 96, 3), np.float32)
    image[:, 48:] = 200
    back = np.mean([degrade.resampled(rng, image) for _ in range(12)], axis=0)
    assert 0.5 < np.abs(np.diff(back[:, :, 0].mean(0))).max() / 200 * 2 < 2
    assert abs(back[:, 40:56].mean() - 100) < 3  # the edge has not moved


def test_a_second_jpeg_does_more_than_the_last_one_alone():
    image = generate.generate(5, SIZE).astype(np.float32)
    once, twice = [], []
    for seed in range(12):
        once.append(degrade.add_jpeg(np.random.default_rng(seed), image, 90))
        twice.append(degrade.jpeg_again(np.random.default_rng(seed), image, 90))
    assert twice[0].shape == image.shape
    assert np.mean((np.array(twice) - image) ** 2) > 1.5 * np.mean((np.array(once) - image) ** 2)


def test_soft_pictures_that_are_right_are_seldom_blurred_further(monkeypatch):
    image = generate.generate(7, SIZE)
    modes, soft, blurred = [], [], {}

    def seen(rng, clean, mode):
        modes.append(mode)
        soft.append(np.abs(np.diff(clean.astype(float), axis=1)).mean())
        return clean

    monkeypatch.setattr(degrade, "degrade", seen)
    monkeypatch.setattr(degrade, "FLAT_SHARE", 0.0)
    for share in (1.0, 0.0):
        monkeypatch.setattr(degrade, "SOFT_SHARE", share)
        modes.clear()
        for seed in range(60):
            degrade.training_pair(np.random.default_rng(seed), image, 32)
        blurred[share] = sum(mode in ("blur", "resampled", "mixed") for mode in modes)
    assert 0 < blurred[1.0] < 0.7 * blurred[0.0]
    assert np.mean(soft[:60]) < 0.8 * np.mean(soft[60:])
