from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from restoration.common.blur import usm_sharpened
from restoration.common.degradation import (
    Blur,
    GaussianNoise,
    JpegArithmetic,
    JpegFile,
    PoissonNoise,
    Resize,
    Scene,
    Sinc,
    degrade,
    draw_plan,
    training_pair,
)
from restoration.common.jpeg import jpeg_arithmetic, jpeg_round_trip
from restoration.registry import presets

DRAWS = 4000
FIRST_KERNELS = {
    "iso": 0.9 * 0.45,
    "aniso": 0.9 * 0.25,
    "generalized_iso": 0.9 * 0.12,
    "generalized_aniso": 0.9 * 0.03,
    "plateau_iso": 0.9 * 0.12,
    "plateau_aniso": 0.9 * 0.03,
    "sinc": 0.1,
}
# The published tables, written down again: (first pass, second pass).
SECOND_ORDER = {
    "realesrgan": {
        "second_blur": 0.8,
        "factor": ((0.15, 1.5), (0.3, 1.2)),
        "gaussian": ((1, 30), (1, 25)),
        "poisson": ((0.05, 3), (0.05, 2.5)),
        "jpeg": ((30, 95), (30, 95)),
    },
    "pasd": {
        "second_blur": 0.5,
        "factor": ((0.3, 1.5), (0.6, 1.2)),
        "gaussian": ((1, 15), (1, 12)),
        "poisson": ((0.05, 2), (0.05, 1)),
        "jpeg": ((60, 95), (60, 100)),
    },
}
FIRST_ORDER = {
    "diffbir_v2": {"sigma": (0.1, 12), "shrink": (1, 12), "noise": (0, 15), "jpeg": (30, 100)},
    "diffbir_v1_face": {
        "sigma": (0.1, 10),
        "shrink": (0.8, 8),
        "noise": (0, 20),
        "jpeg": (60, 100),
    },
}


def plans(recipe: str) -> list[tuple]:
    return [draw_plan(presets()[recipe], seed) for seed in range(DRAWS)]


def assert_share(found: int, total: int, expected: float) -> None:
    """Within four standard deviations; the seeds are fixed, so this never flickers."""
    assert abs(found / total - expected) < 4 * math.sqrt(expected * (1 - expected) / total)


def assert_uniform(values: list[float], low: float, high: float) -> None:
    """All of the range, nothing beyond, and even."""
    spread = (high - low) * max(0.03, 10 / len(values))
    assert low - 1e-9 <= min(values) < low + spread and high - spread < max(values) <= high + 1e-9
    deviation = (high - low) / math.sqrt(12 * len(values))
    assert abs(np.mean(values) - (low + high) / 2) < 4 * deviation


def name(kernel: Blur | Sinc) -> str:
    return kernel.kind if isinstance(kernel, Blur) else "sinc"


def parts(plan: tuple) -> dict:
    """A second-order plan by role; asserts the order of the steps."""
    blur, resize, noise, jpeg, *rest = plan
    found: dict[str, Any] = {"blur": (blur, None)}
    if isinstance(rest[0], (Blur, Sinc)):
        found["blur"] = (blur, rest.pop(0))
    again, noise2, *end = rest
    file = next(step for step in end if isinstance(step, JpegFile))
    found["jpeg_last"] = end[-1] is file
    resize_and_sinc = [step for step in end if step is not file]
    assert end == ([*resize_and_sinc, file] if found["jpeg_last"] else [file, *resize_and_sinc])
    last, *sinc = resize_and_sinc
    assert (last.factor, last.of_input) == (0.25, True)
    assert (resize.of_input, again.of_input) == (False, True)
    assert all(isinstance(step, Sinc) for step in sinc) and len(sinc) <= 1
    return {
        **found,
        "resize": (resize, again),
        "noise": (noise, noise2),
        "jpeg": (jpeg, file),
        "sinc": sinc,
        "modes": (resize.mode, again.mode, last.mode),
    }


@pytest.mark.parametrize("recipe", SECOND_ORDER)
def test_the_second_order_choices_have_the_papers_probabilities(recipe: str) -> None:
    drawn = [parts(plan) for plan in plans(recipe)]
    kernels = Counter(name(p["blur"][0]) for p in drawn)
    assert set(kernels) == set(FIRST_KERNELS)
    for kind, share in FIRST_KERNELS.items():
        assert_share(kernels[kind], DRAWS, share)
    assert_share(
        sum(p["blur"][1] is not None for p in drawn), DRAWS, SECOND_ORDER[recipe]["second_blur"]
    )
    assert_share(sum(len(p["sinc"]) for p in drawn), DRAWS, 0.8)
    assert_share(sum(p["jpeg_last"] for p in drawn), DRAWS, 0.5)
    ways = (((0.2, 0.7, 0.1), 1.0), ((0.3, 0.4, 0.3), 0.25))
    for number, ((up, down, keep), unit) in enumerate(ways):
        factors = [p["resize"][number].factor / unit for p in drawn]
        assert_share(sum(f > 1 for f in factors), DRAWS, up)
        assert_share(sum(f < 1 for f in factors), DRAWS, down)
        assert_share(sum(f == 1 for f in factors), DRAWS, keep)
        assert_share(sum(isinstance(p["noise"][number], GaussianNoise) for p in drawn), DRAWS, 0.5)
        assert_share(sum(p["noise"][number].gray for p in drawn), DRAWS, 0.4)
    for number in range(3):
        modes = Counter(p["modes"][number] for p in drawn)
        for mode in ("area", "bilinear", "bicubic"):
            assert_share(modes[mode], DRAWS, 1 / 3)


@pytest.mark.parametrize("recipe", SECOND_ORDER)
def test_the_second_order_ranges_are_the_papers(recipe: str) -> None:
    table, drawn = SECOND_ORDER[recipe], [parts(plan) for plan in plans(recipe)]
    for number, sigma in enumerate(((0.2, 3), (0.2, 1.5))):
        kernels = [p["blur"][number] for p in drawn if p["blur"][number]]
        blurs = [k for k in kernels if isinstance(k, Blur)]
        assert Counter(k.size for k in kernels).keys() == set(range(7, 22, 2))
        assert_uniform([k.sigma_x for k in blurs], *sigma)
        turned = [k for k in blurs if k.kind.endswith("aniso")]
        assert_uniform([k.sigma_y for k in turned], *sigma)
        assert_uniform([k.angle for k in turned], -math.pi, math.pi)
        assert all(k.sigma_x == k.sigma_y for k in blurs if not k.kind.endswith("aniso"))
        betas = [k.beta for k in blurs if k.kind.startswith("generalized")]
        assert_share(sum(b < 1 for b in betas), len(betas), 0.5)
        assert_uniform([b for b in betas if b < 1], 0.5, 1)
        assert_uniform([b for b in betas if b > 1], 1, 4)
        plateau = [k.beta for k in blurs if k.kind.startswith("plateau")]
        assert_share(sum(b == 1 for b in plateau), len(plateau), 0.5)
        assert_uniform([b for b in plateau if b != 1], 1, 2)
        sincs = [k for k in kernels if isinstance(k, Sinc)]
        assert_uniform([k.cutoff for k in sincs if k.size < 13], math.pi / 3, math.pi)
        assert_uniform([k.cutoff for k in sincs if k.size >= 13], math.pi / 5, math.pi)
        low, high = table["factor"][number]
        factors = [p["resize"][number].factor * (1, 4)[number] for p in drawn]
        assert_uniform([f for f in factors if f < 1], low, 1)
        assert_uniform([f for f in factors if f > 1], 1, high)
        noises = [p["noise"][number] for p in drawn]
        sigmas = [n.sigma for n in noises if isinstance(n, GaussianNoise)]
        assert_uniform(sigmas, *table["gaussian"][number])
        scales = [n.scale for n in noises if isinstance(n, PoissonNoise)]
        assert_uniform(scales, *table["poisson"][number])
        assert_uniform([p["jpeg"][number].quality for p in drawn], *table["jpeg"][number])
    final = [p["sinc"][0] for p in drawn if p["sinc"]]
    assert_uniform([k.cutoff for k in final], math.pi / 3, math.pi)
    assert {k.size for k in final} == set(range(7, 22, 2))


@pytest.mark.parametrize("recipe", FIRST_ORDER)
def test_diffbirs_single_pass_has_its_table(recipe: str) -> None:
    table, drawn = FIRST_ORDER[recipe], plans(recipe)
    kinds = Counter(plan[0].kind for plan in drawn)
    assert_share(kinds["iso"], DRAWS, 0.5)
    assert kinds["iso"] + kinds["aniso"] == DRAWS
    for blur, shrink, noise, jpeg, back in drawn:
        assert (blur.size, shrink.mode, shrink.of_input, noise.gray) == (
            41,
            "bilinear",
            False,
            False,
        )
        assert isinstance(jpeg, JpegFile) and back == Resize("bilinear", 1.0, of_input=True)
    assert_uniform([plan[0].sigma_x for plan in drawn], *table["sigma"])
    assert_uniform([plan[0].sigma_y for plan in drawn if plan[0].kind == "aniso"], *table["sigma"])
    assert_uniform([1 / plan[1].factor for plan in drawn], *table["shrink"])
    assert_uniform([plan[2].sigma for plan in drawn], *table["noise"])
    qualities = [plan[3].quality + 0.5 for plan in drawn]  # cut off to whole numbers
    low, high = table["jpeg"]
    assert_uniform(qualities, low + 0.5, high - 0.5)


RECORDED_SUMS = {
    "realesrgan": (191.6078, 3065.3805),
    "pasd": (193.4510, 3094.4785),
    "diffbir_v2": (193.7255, 3099.7138),
    "diffbir_v1_face": (196.5333, 3143.6393),
}
"""{preset: (quarter_size, input_size)}"""
EXACT = {
    "pasd_exact": "pasd",
    "diffbir_v2.1": "realesrgan",
    "seesr": "realesrgan",
    "realesrgan_exact": "realesrgan",
}
"""Presets as the authors' own code computes them, and those with the same draws that came first."""


@pytest.mark.parametrize("recipe", EXACT)
def test_an_exact_preset_draws_what_the_first_one_does(recipe: str) -> None:
    """But for the file, the grid of the first resize and the way back to the input's size."""
    ways = Counter()
    for seed in range(200):
        plan = draw_plan(presets()[recipe], seed)
        *steps, back = plan
        ways[back.mode] += 1
        for ours, first in zip(steps, draw_plan(presets()[EXACT[recipe]], seed), strict=True):
            if isinstance(ours, JpegArithmetic):
                assert first == JpegFile(round(ours.quality)) and ours.quality % 1
            elif isinstance(ours, Resize) and not ours.of_input:
                assert replace(ours, by_factor=False) == first and ours.by_factor
            else:
                assert ours == first
    assert set(ways) == ({"area", "bilinear", "bicubic"} if "pasd" in recipe else {"bicubic"})
    assert presets()[recipe].sharpened == (recipe in ("diffbir_v2.1", "seesr"))


def test_every_preset_is_tested() -> None:
    assert set(presets()) == set(SECOND_ORDER) | set(FIRST_ORDER) | set(EXACT)


def test_what_the_first_presets_gave_stays() -> None:
    """Old workflows keep their pixels: sums recorded before the exact presets came."""
    ramp = torch.linspace(0, 1, 3 * 40 * 52).view(1, 3, 40, 52)
    found = {
        (recipe, size): float(run(ramp, recipe, [11], size).double().sum())
        for recipe in RECORDED_SUMS
        for size in ("quarter_size", "input_size")
    }
    expected = {
        (recipe, size): value
        for recipe, sums in RECORDED_SUMS.items()
        for size, value in zip(("quarter_size", "input_size"), sums, strict=True)
    }
    assert found == pytest.approx(expected, abs=0.02)


def test_the_sharpened_picture_is_damaged_and_is_the_target() -> None:
    ramp = torch.zeros(1, 3, 48, 48)
    ramp[..., 24:] = 0.7
    ramp += 0.1
    target, damaged = training_pair(ramp, presets()["seesr"], 5, jpeg_round_trip)
    assert torch.equal(target, usm_sharpened(ramp)) and not torch.equal(target, ramp)
    assert target.min() < 0.1 - 0.02 and target.max() > 0.8 + 0.02
    assert torch.equal(damaged, run(ramp, "seesr", [5], "input_size"))
    plain, again = training_pair(ramp, presets()["pasd_exact"], 5, jpeg_round_trip)
    assert torch.equal(plain, ramp)
    assert torch.equal(again, run(ramp, "pasd_exact", [5], "input_size"))
    flat = torch.full((1, 3, 9, 7), 0.4)  # nothing to sharpen, and smaller than the blur
    assert torch.allclose(usm_sharpened(flat), flat)


def test_the_arithmetic_of_jpeg_is_close_to_a_file() -> None:
    """At full quality the picture; at any size; worse with lower quality; of gray pictures as
    much as the real one, which enlarges color more smoothly."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(0).random((2, 3, 40, 27))
    picture = torch.from_numpy(gaussian_filter(noise, (0, 0, 2, 2)) * 4 - 1.5).float().clamp(0, 1)
    gray = picture[:, :1].expand(-1, 3, -1, -1)
    assert torch.allclose(jpeg_arithmetic(gray, 99.9), gray, atol=1 / 255)
    errors = [
        (jpeg_arithmetic(picture, quality) - picture).square().mean() for quality in (95, 60.5, 20)
    ]
    assert errors[0] < errors[1] < errors[2]
    ours, files = (
        (run(gray, 30) - gray).square().mean() for run in (jpeg_arithmetic, jpeg_round_trip)
    )
    assert 0.7 < ours / files < 1.4
    assert torch.equal(jpeg_arithmetic(picture, 60)[1:], jpeg_arithmetic(picture[1:], 60))


def scene(seed: int = 0, height: int = 96, width: int = 96) -> Scene:
    return Scene(height, width, np.random.default_rng(seed), jpeg_round_trip)


def levels_of_gray() -> torch.Tensor:
    """Every 8-bit level once in every column: 1 3 256 64."""
    return (torch.arange(256.0) / 255).view(1, 1, 256, 1).expand(1, 3, 256, 64)


@pytest.mark.parametrize("gray", [False, True])
def test_gaussian_noise_has_its_strength(gray: bool) -> None:
    flat = torch.full((1, 3, 128, 128), 0.5)
    noise = (GaussianNoise(20.0, gray)(flat, scene()) - flat) * 255
    drawn = np.random.default_rng(0).standard_normal((1, 1 if gray else 3, 128, 128), np.float32)
    assert np.allclose(noise.numpy(), 20 * drawn, atol=1e-3)
    assert torch.equal(noise[:, 0], noise[:, 2]) == gray
    correlation = np.corrcoef(noise[0, 0].flatten(), noise[0, 1].flatten())[0, 1]
    assert abs(correlation - gray) < 0.03


@pytest.mark.parametrize("gray", [False, True])
def test_poisson_noise_grows_with_the_signal(gray: bool) -> None:
    """With all 256 levels present, v * 256 photons are counted: variance scale^2 v / 256."""
    image, scale = levels_of_gray(), 0.7
    noise = PoissonNoise(scale, gray)(image, scene()) - image
    for low, high in ((20, 60), (100, 140), (180, 200)):
        band = noise[:, :, low:high]
        expected = scale * math.sqrt((low + high) / 2 / 255 / 256)
        assert band.std().item() == pytest.approx(expected, rel=0.06)
        assert abs(band.mean().item()) < 0.1 * expected
    assert torch.equal(noise[:, 0], noise[:, 2]) == gray


def test_poisson_noise_counts_at_the_levels_that_the_picture_has() -> None:
    """Three levels count as four: the fewer levels, the fewer photons and the more noise."""
    image = torch.tensor([0.2, 0.4, 0.6]).repeat_interleave(60).view(1, 1, 180, 1)
    image = image.expand(1, 3, 180, 400)
    noise = PoissonNoise(0.1, gray=False)(image, scene()) - image
    expected = 0.1 * math.sqrt(0.4 / 4)
    assert noise[:, :, 60:120].std().item() == pytest.approx(expected, rel=0.03)


def test_gray_poisson_noise_counts_the_luma() -> None:
    """Red above blue: two levels, so two photons for white."""
    image = torch.zeros(1, 3, 200, 400)
    image[:, 0, :100], image[:, 2, 100:] = 0.8, 0.8
    image += 0.1  # room below, so that nothing is cut off
    noise = PoissonNoise(0.02, gray=True)(image, scene()) - image
    for band, weight in ((noise[..., :100, :], 0.2989), (noise[..., 100:, :], 0.114)):
        expected = 0.02 * math.sqrt((0.1 + 0.8 * weight) / 2)
        assert band.std().item() == pytest.approx(expected, rel=0.02)


def test_noise_stays_in_range() -> None:
    for step in (GaussianNoise(200.0, False), PoissonNoise(30.0, True)):
        noisy = step(levels_of_gray(), scene())
        assert noisy.min() == 0 and noisy.max() == 1


def test_resizing_counts_from_the_present_or_the_first_size() -> None:
    pixels = torch.rand(1, 3, 30, 23)
    assert Resize("area", 0.5)(pixels, scene(height=90, width=70)).shape[-2:] == (15, 11)
    again = Resize("bicubic", 1.2 / 4, of_input=True)(pixels, scene(height=92, width=79))
    assert again.shape[-2:] == (27, 23)  # 27.6 and 23.7, cut off
    assert Resize("bilinear", 0.01)(pixels, scene()).shape[-2:] == (1, 1)
    assert torch.equal(Resize("bicubic", 1.0)(pixels, scene()), pixels)


def test_jpeg_is_a_real_one_with_halved_colour() -> None:
    gray = levels_of_gray()
    assert torch.allclose(jpeg_round_trip(gray, 95), gray, atol=3 / 255)
    stripes = torch.zeros(1, 3, 32, 32)
    stripes[:, 0, :, ::2], stripes[:, 2, :, 1::2] = 1, 1
    decoded = jpeg_round_trip(stripes, 95)
    assert (decoded[:, 0] - decoded[:, 2]).abs().mean() < 0.35, (
        "the color of single columns is lost"
    )
    picture = torch.rand(2, 3, 40, 40)
    errors = [(jpeg_round_trip(picture, q) - picture).square().mean() for q in (95, 60, 30)]
    assert errors[0] < errors[1] < errors[2]
    assert torch.equal(jpeg_round_trip(picture, 60)[1:], jpeg_round_trip(picture[1:], 60))


def run(pixels, recipe, seeds, size="quarter_size") -> torch.Tensor:
    return degrade(pixels, presets()[recipe], seeds, size, jpeg_round_trip)


@pytest.mark.parametrize("recipe", presets())
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (17, 64), (97, 50)])
def test_any_size_in_and_the_asked_size_out(recipe: str, shape: tuple[int, int]) -> None:
    pixels = torch.rand(2, 3, *shape)
    quarter = (max(1, shape[0] // 4), max(1, shape[1] // 4))
    for size, expected in (("quarter_size", quarter), ("input_size", shape)):
        for seed in range(4):
            damaged = run(pixels, recipe, [seed, seed + 10], size)
            assert damaged.shape == (2, 3, *expected)
            assert damaged.min() >= 0 and damaged.max() <= 1
            assert torch.allclose(damaged * 255, (damaged * 255).round(), atol=1e-4)


@pytest.mark.parametrize("recipe", presets())
def test_a_seed_gives_one_picture_at_any_place_of_a_batch(recipe: str) -> None:
    batch = torch.rand(3, 3, 64, 48)
    seeds = [5, 2**64 + 1, 5]
    together = run(batch, recipe, seeds)
    for row, seed in enumerate(seeds):
        assert torch.equal(run(batch[row : row + 1], recipe, [seed]), together[row : row + 1])
    assert torch.equal(run(batch.flip(0), recipe, seeds[::-1]), together.flip(0))
    assert draw_plan(presets()[recipe], 2**64 + 1) != draw_plan(presets()[recipe], 1)
    same = run(batch[:1].expand(2, -1, -1, -1), recipe, [5, 6])
    assert not torch.equal(same[0], same[1])


@pytest.mark.parametrize("recipe", presets())
def test_the_global_generators_are_neither_used_nor_moved(recipe: str) -> None:
    pixels = torch.rand(1, 3, 40, 40)
    before = torch.get_rng_state(), repr(np.random.get_state()), random.getstate()
    first = run(pixels, recipe, [3])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert repr(np.random.get_state()) == before[1] and random.getstate() == before[2]
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    assert torch.equal(run(pixels, recipe, [3]), first)


def test_the_plan_is_carried_out_step_by_step_and_printed(monkeypatch) -> None:
    """Steps that leave a mark: their order, their scene, and the noise stream of the seed."""
    seen = []

    class Mark(tuple):
        def __call__(self, pixels, scene):
            seen.append((self[0], scene.height, scene.width, scene.rng.random()))
            return pixels * self[1]

    class Recipe:
        sharpened = False

        def draw(self, rng):
            return (Mark(("a", 0.5)), Mark(("b", 0.5)))

    calls = []
    pixels = torch.full((2, 3, 8, 12), 0.8)
    result = degrade(
        pixels, Recipe(), [7, 8], "input_size", jpeg_round_trip, lambda: calls.append(1)
    )
    assert torch.allclose(result, torch.full_like(result, 51 / 255))
    assert [s[:3] for s in seen] == [("a", 8, 12), ("b", 8, 12)] * 2 and len(calls) == 2
    assert len({s[3] for s in seen}) == 4, "every picture has its own noise"
    words = ", ".join(map(str, draw_plan(presets()["realesrgan"], 4)))
    assert words.startswith("blur generalized_iso 17 px, sigma 2.41, beta 0.83, resize area x0.58")


def test_the_input_size_is_the_quarter_enlarged_by_bicubic() -> None:
    pixels = torch.rand(1, 3, 64, 64)
    small, large = (run(pixels, "pasd", [1], size) for size in ("quarter_size", "input_size"))
    expected = torch.nn.functional.interpolate(small, (64, 64), mode="bicubic").clamp(0, 1)
    assert (large - expected).abs().max() < 2.5 / 255  # one rounding apart


def test_damage_is_damage_and_pasds_is_milder() -> None:
    from scipy.ndimage import gaussian_filter

    picture = gaussian_filter(np.random.default_rng(0).random((3, 128, 128)), (0, 1.5, 1.5))
    picture = torch.from_numpy((picture - picture.min()) / np.ptp(picture)).float()[None]
    seeds = list(range(40))
    errors = {}
    for recipe in ("realesrgan", "pasd"):
        damaged = run(picture.expand(40, -1, -1, -1), recipe, seeds, "input_size")
        errors[recipe] = (damaged - picture).square().mean().item()
    assert errors["realesrgan"] > errors["pasd"] > 1e-4


def test_a_wrong_number_of_seeds_is_refused() -> None:
    with pytest.raises(ValueError, match="2 pictures need as many seeds, found 1"):
        run(torch.rand(2, 3, 8, 8), "pasd", [1])
