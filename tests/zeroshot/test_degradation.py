"""Chains of known degradations: A A+ A = A at every size, spectral forms, and what cannot have happened."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restoration.zeroshot.degradation import LUMA, KnownDegradation
from restoration.zeroshot.operators import Spectral


def picture(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chain(*kinds: str, **given: object) -> KnownDegradation:
    known = None
    for kind in kinds:
        mask = picture(9, 1, 6, 8).round() if kind == "inpaint" else None
        settings = {"scale": 2, "blur_sigma": 0.7, "quality": 60, **given}
        known = KnownDegradation(kind, mask=mask, before=known, **settings)  # type: ignore[arg-type]
    assert known is not None
    return known


LINEAR = (
    ("average_pool",), ("bicubic",), ("gaussian_blur",), ("grayscale",), ("luma",), ("inpaint",),
    ("gaussian_blur", "bicubic"), ("luma", "bicubic"), ("grayscale", "gaussian_blur", "average_pool"),
    ("average_pool", "inpaint"), ("luma", "bicubic", "inpaint"),
)  # fmt: skip


@pytest.mark.parametrize("kinds", LINEAR, ids=" ".join)
def test_the_inverse_agrees_with_the_measurement(kinds) -> None:
    operator = chain(*kinds).operator()
    x, like = picture(1, 2, 3, 12, 16), picture(2, 2, 3, 12, 16)
    y = operator.degrade(x)
    torch.testing.assert_close(operator.degrade(operator.invert(y, like)), y, atol=2e-6, rtol=0)
    # DDNM's projection meets it from anywhere.
    moved = like - operator.invert(operator.degrade(like) - y, like)
    torch.testing.assert_close(operator.degrade(moved), y, atol=2e-6, rtol=0)


@pytest.mark.parametrize("kinds", [k for k in LINEAR if "inpaint" not in k[1:]], ids=" ".join)
def test_the_spectral_form_is_the_operators_own(kinds) -> None:
    operator = chain(*kinds).operator()
    assert isinstance(operator, Spectral)
    x = picture(3, 1, 3, 12, 16)
    y = operator.degrade(x)

    def close(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)

    # V S V^T twice is V S^2 V^T; V S U^T (A x) is the same.
    twice = operator.filter(operator.filter(x, lambda s: s), lambda s: s)
    close(twice, operator.filter(x, torch.square))
    close(operator.filter_measured(y, lambda s: s, x), operator.filter(x, torch.square))
    close(operator.filter(x, torch.ones_like), operator.invert(y, x))
    inverse = operator.filter_measured(y, lambda s: torch.where(s > 0, 1 / s, 0.0), x)
    close(inverse, operator.invert(y, x))
    values = operator.spectrum(x)
    assert values.shape[-3:] == y.shape[-3:] and float(values.max()) <= 1 + 1e-9
    energy = operator.filter_measured(y, lambda s: s, x)
    close((energy * x).sum(), y.square().sum())


def test_words_tell_the_order_in_which_things_happened() -> None:
    assert (
        str(chain("grayscale", "bicubic", "jpeg")) == "grayscale, then bicubic / 2, then jpeg at 60"
    )


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("inpaint", "bicubic"), "a mask comes last"),
        (("jpeg", "bicubic"), "JPEG comes last"),
        (("jpeg", "jpeg"), "JPEG comes last"),
        (("luma", "grayscale"), "gray twice"),
    ],
)
def test_what_cannot_have_happened_is_said(kinds, said) -> None:
    with pytest.raises(ValueError, match=said):
        chain(*kinds).operator()


def test_a_mask_and_whole_factors_are_asked_for() -> None:
    with pytest.raises(ValueError, match="needs `mask`"):
        KnownDegradation("inpaint").operator()
    operator = chain("bicubic").operator()
    with pytest.raises(ValueError, match="no multiple of 2"):
        operator.degrade(picture(1, 1, 3, 11, 12))


def test_jpeg_is_near_the_real_one_and_repeats() -> None:
    from restoration.common.jpeg import jpeg_round_trip

    smooth = torch.nn.functional.interpolate(
        picture(4, 1, 3, 4, 5).float(), (37, 51), mode="bicubic"
    ).clamp(0, 1)
    operator = chain("jpeg").operator()
    ours, real = operator.degrade(smooth), jpeg_round_trip(smooth, 60)
    assert ours.shape == smooth.shape
    # Readers smooth the halved color; its brightness is the same.
    luma = torch.tensor(LUMA)[:, None, None]
    assert ((ours - real) * luma).sum(1).abs().mean() < 0.006
    assert (operator.degrade(ours) - ours).abs().mean() < 0.01


def test_a_mask_of_another_resolution_is_laid_over_the_picture() -> None:
    operator = KnownDegradation("inpaint", mask=torch.tensor([[[1.0, 0.0]]])).operator()
    out = operator.degrade(torch.ones(2, 3, 4, 6))
    assert out[..., :3].eq(1).all() and out[..., 3:].eq(0).all()
