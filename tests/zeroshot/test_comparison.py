"""Comparisons after a degradation and in an unknown light are the gradients they stand for."""

import pytest
import torch

from restoration.zeroshot.axes import Blur
from restoration.zeroshot.comparison import Degraded, UnknownLight, light_step
from restoration.zeroshot.operators import AveragePool, Chain, Grayscale, Jpeg, Mask, Separable

KNOWN = torch.rand(1, 1, 8, 8).round()


@pytest.mark.parametrize(
    "operator",
    [AveragePool(2), Grayscale(), Mask(KNOWN), Chain(AveragePool(2), Mask(KNOWN))],
    ids=lambda operator: type(operator).__name__,
)
def test_a_degraded_difference_is_the_gradient_of_what_the_degradation_leaves(operator) -> None:
    z, target = (torch.rand(1, 3, 8, 8, dtype=torch.float64) * 2 - 1 for _ in range(2))
    leaf = z.clone().requires_grad_(True)
    kept = operator.invert(operator.degrade(leaf - target), leaf)
    (gradient,) = torch.autograd.grad(kept.square().sum() / 2, leaf)
    torch.testing.assert_close(Degraded(operator)(z, target, 0), gradient)
    assert not Degraded(operator)(target, target, 0).any()


def test_a_blur_neither_magnifies_noise_nor_happens_to_its_reference_again() -> None:
    operator, sharp = Separable(Blur(2.0, 13), Grayscale()), torch.rand(1, 3, 24, 24) * 2 - 1
    photo = operator.degrade(sharp).expand(1, 3, 24, 24)
    assert Degraded(operator)(sharp, photo, 0).abs().max() < 1e-5
    grain = 0.1 * torch.randn(1, 1, 24, 24).expand(1, 3, 24, 24)
    found = Degraded(operator)(sharp, photo + grain, 0)
    magnified = operator.invert(operator.gray.degrade(grain), sharp)
    assert found.norm() < grain.norm() < magnified.norm() / 10
    leaf = sharp.clone().requires_grad_(True)
    top = operator.spectrum(leaf).max() ** 2
    left = operator.degrade(leaf) - operator.gray.degrade(photo + grain)
    (gradient,) = torch.autograd.grad(left.square().sum() / 2 / top, leaf)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)


def test_a_reference_may_be_the_measurement_itself() -> None:
    operator, z = AveragePool(4), torch.rand(1, 3, 16, 12) * 2 - 1
    target = torch.rand(1, 3, 16, 12) * 2 - 1
    small = operator.degrade(target)
    torch.testing.assert_close(Degraded(operator)(z, small, 0), Degraded(operator)(z, target, 0))
    with pytest.raises(ValueError, match=r"9x9 pixels .* or the small one, 3x4"):
        Degraded(operator)(z, torch.zeros(1, 3, 9, 9), 0)


def test_jpeg_pulls_to_what_the_file_holds() -> None:
    z = torch.rand(1, 3, 16, 16) * 2 - 1
    held = Jpeg(30).degrade((z + 1) / 2) * 2 - 1
    assert Degraded(Jpeg(30))(z, held, 0).abs().max() < 1e-4
    assert Degraded(Jpeg(30))(z + 0.2, held, 0).mean() > 0.05


def test_the_light_is_fitted_by_its_gradient_and_found() -> None:
    u, y = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    factor, offset = (
        torch.rand(2, 1, 1, 1).requires_grad_(),
        torch.rand(2, 1, 8, 8).requires_grad_(),
    )
    loss = (factor * u + offset - y).square().mean((1, 2, 3)).sum()
    by_factor, by_offset = torch.autograd.grad(loss, (factor, offset))
    moved, new_factor, new_offset = light_step(u, y, factor.detach(), offset.detach())
    torch.testing.assert_close(factor - new_factor, by_factor)
    torch.testing.assert_close(offset - new_offset, by_offset)
    torch.testing.assert_close(moved, factor.detach() * (factor * u + offset - y).detach())

    light, dark = UnknownLight(), 0.3 * u * 2 - 1
    for _ in range(60):
        for row in (0, 1):
            light(u[row : row + 1] * 2 - 1, dark[row : row + 1], row)
    assert all(abs(float(f) - 0.3) < 0.01 for f, _ in light.lights.values())
    light.forget()
    assert not light.lights
    with pytest.raises(ValueError, match="4x4, the picture being sampled 8x8"):
        light(u[:1], torch.zeros(1, 3, 4, 4), 0)
