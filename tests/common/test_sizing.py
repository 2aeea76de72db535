from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restoration.common.resample import resize
from restoration.common.sizing import at_least, finish, prepare, scaled_size


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 3),
    st.sampled_from([3, 4]),
    st.sampled_from([1.0, 0.5, 1.5, 2.0]),
    st.sampled_from([0, 48]),
    st.sampled_from([1, 8, 64]),
    st.sampled_from(["pad", "stretch", "black"]),
)
@settings(max_examples=60, deadline=None)
def test_any_size_in_exactly_the_asked_size_out(h, w, b, c, factor, min_side, multiple, fit):
    working, info = prepare(torch.rand(b, h, w, c), factor, min_side, multiple, fit)
    assert working.shape[0] == b and working.shape[-1] == 3
    assert working.shape[1] % multiple == 0 and working.shape[2] % multiple == 0
    assert working.min() >= 0 and working.max() <= 1
    for method in ("none", "wavelet"):
        result = finish(working, info, method)
        assert result.shape == (b, *scaled_size((h, w), factor), c)
        assert torch.isfinite(result).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("fit", ["pad", "black"])
def test_there_and_back_without_scaling_is_exact(channels: int, fit) -> None:
    image = torch.rand(2, 37, 53, channels)
    working, info = prepare(image, 1.0, 0, 64, fit)
    assert working.shape == (2, 64, 64, 3)
    expected = image.expand(-1, -1, -1, 3) if channels == 1 else image
    assert torch.equal(finish(working, info, "none"), expected)


def test_padding_mirrors_or_blackens() -> None:
    image = torch.rand(1, 6, 6, 3)
    mirrored, _ = prepare(image, 1.0, 0, 8, "pad")
    black, _ = prepare(image, 1.0, 0, 8, "black")
    assert torch.equal(mirrored[0, 6:, :6], image[0, [4, 3]])
    assert (black[0, 6:] == 0).all() and (black[0, :, 6:] == 0).all()


def test_stretch_resizes_the_whole_photo() -> None:
    image = torch.rand(1, 37, 53, 3)
    working, info = prepare(image, 1.0, 0, 8, "stretch")
    assert working.shape == (1, 32, 48, 3) and info.content_size == (32, 48)
    expected = resize(image.movedim(-1, 1), 32, 48).clamp(0, 1).movedim(1, -1)
    assert torch.equal(working, expected)


def test_sizes_are_truncated_and_never_vanish() -> None:
    assert scaled_size((67, 45), 1.5) == (100, 67)
    assert scaled_size((1, 300), 0.01) == (1, 3)


def test_min_side_follows_the_authors() -> None:
    assert at_least((107, 107), 512) == (512, 512)  # a square stays one
    assert at_least((600, 700), 512) == (600, 700)
    working, info = prepare(torch.rand(1, 75, 100, 3), 4.0, 512, 64, "black")
    assert info.output_size == (300, 400) and info.content_size == (512, 682)
    assert working.shape == (1, 512, 704, 3)


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_a_picture_is_resized_to_the_asked_size_before_the_working_size(fit) -> None:
    """As the authors do: a reduction takes detail that the enlargement to `min_side` cannot give
    back, and its colors must not come back either."""
    photo = torch.rand(1, 40, 60, 3)
    working, info = prepare(photo, 0.5, 72, 1 if fit == "pad" else 8, fit)
    pixels = photo.movedim(-1, 1)
    twice = resize(resize(pixels, 20, 30), 72, 108)
    once = resize(pixels, 72, 108)
    if fit == "stretch":
        twice, once = resize(twice, 72, 104), resize(once, 72, 104)
    assert torch.equal(info.reference, twice.clamp(0, 1))
    assert torch.equal(working.movedim(-1, 1), info.reference)
    assert (twice - once).abs().max() > 0.1


def test_alpha_has_the_geometry_of_the_picture() -> None:
    image = torch.rand(1, 20, 30, 4)
    image[..., 3] = 0
    image[:, :, :15, 3] = 1
    working, info = prepare(image, 2.0, 0, 8, "pad")
    alpha = finish(working, info, "none")[..., 3]
    assert (alpha[:, :, :28] > 0.9).all() and (alpha[:, :, 32:] < 0.1).all()


def test_a_result_of_twice_the_working_size_is_cut_in_proportion() -> None:
    image = torch.rand(1, 21, 30, 3)
    working, info = prepare(image, 1.0, 0, 8, "pad")
    double = working.repeat_interleave(2, 1).repeat_interleave(2, 2)
    result = finish(double, info, "none")
    expected = resize(double[:, :42, :60].movedim(-1, 1), 21, 30).clamp(0, 1).movedim(1, -1)
    assert torch.equal(result, expected)


def test_batches_meet() -> None:
    working, info = prepare(torch.rand(2, 16, 16, 4), 1.0, 0, 8, "pad")
    assert finish(working.repeat(2, 1, 1, 1), info, "adain").shape == (4, 16, 16, 4)
    with pytest.raises(ValueError, match="`reference` has 2 images, but there are 3"):
        finish(torch.rand(3, 16, 16, 3), info, "wavelet")


def test_another_reference_gives_its_colors() -> None:
    working, info = prepare(torch.rand(1, 32, 32, 3), 1.0, 0, 8, "pad")
    result = finish(working, info, "adain", torch.full((1, 9, 9, 3), 0.7))
    assert torch.allclose(result, torch.full_like(result, 0.7), atol=0.02)


def test_a_foreign_picture_gets_a_sentence() -> None:
    _, info = prepare(torch.rand(1, 101, 100, 3), 1.0, 0, 1, "pad")
    with pytest.raises(ValueError, match=r"is 96x96 .* working picture of 100x101"):
        finish(torch.rand(1, 96, 96, 3), info, "none")


def test_an_absurd_enlargement_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"1024000x1024 .*at most 268 million pixels"):
        prepare(torch.rand(1, 1, 1000, 3), 1.0, 1024, 8, "pad")


def test_a_long_and_narrow_picture_is_judged_by_its_area() -> None:
    working, info = prepare(torch.zeros(1, 64, 20000, 3), 1.0, 0, 8, "pad")
    assert working.shape == (1, 64, 20000, 3)
    assert finish(working, info, "none").shape == (1, 64, 20000, 3)


def test_an_unknown_fit_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="`fit` is 'squeeze'; choose one of pad, stretch, black"):
        prepare(torch.rand(1, 8, 8, 3), 1.0, 0, 8, "squeeze")  # type: ignore


@pytest.mark.parametrize("alpha", [False, True])
def test_size_counts_from_the_original_of_an_enlarged_picture(alpha: bool) -> None:
    original = torch.rand(1, 15, 21, 3 + alpha)
    enlarged = torch.rand(1, 60, 84, 3)
    working, info = prepare(enlarged, 2.0, 0, 8, "pad", original)
    assert info.output_size == (30, 42)
    assert torch.equal(working, prepare(enlarged, 0.5, 0, 8, "pad")[0])
    result = finish(working, info, "none")
    assert result.shape == (1, 30, 42, 3 + alpha)  # a model that lost alpha does not lose it for us
    # At the model's own factor nothing is resampled.
    same, info = prepare(enlarged, 4.0, 0, 1, "pad", original)
    assert torch.equal(same, enlarged) and info.output_size == (60, 84)


def test_an_original_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="`image` is 84x60 and `original` 21x21"):
        prepare(torch.rand(1, 60, 84, 3), 2.0, 0, 8, "pad", torch.rand(1, 21, 21, 3))
    with pytest.raises(ValueError, match="`original` must be an IMAGE"):
        prepare(torch.rand(1, 60, 84, 3), 2.0, 0, 8, "pad", torch.rand(21, 21))


def test_originals_of_other_pictures_are_refused_before_anything_is_sampled() -> None:
    for image, original in ((4, 3), (1, 4)):
        with pytest.raises(ValueError, match="`original`"):
            prepare(torch.rand(image, 8, 8, 3), 1.0, 0, 8, "pad", torch.rand(original, 8, 8, 4))
    _, info = prepare(torch.rand(3, 8, 8, 3), 1.0, 0, 8, "pad", torch.rand(1, 8, 8, 4))
    assert finish(torch.rand(3, 8, 8, 3), info, "none").shape == (3, 8, 8, 4)


def test_a_reference_that_nothing_is_taken_from_is_not_looked_at() -> None:
    working, info = prepare(torch.rand(1, 16, 16, 3), 1.0, 0, 8, "pad")
    unusable = torch.full((1, 16, 16, 3), torch.nan)
    assert torch.equal(finish(working, info, "none", unusable), finish(working, info, "none"))
    with pytest.raises(ValueError, match="`reference` contains NaN"):
        finish(working, info, "none", unusable, fidelity=0.6)
