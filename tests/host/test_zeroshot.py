"""Known degradations, the authors' samplers and time travel, in the real host."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    seeded_input,
    tiny_vae,
    unet_model,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH, SCALE = 8, 12, 0.18215
LEVELS = [14.6146, 6.0, 2.5, 1.0, 0.4, 0.0]


@pytest.fixture(scope="module")
def model(comfy):
    return unet_model(ldm_unet_config(SMALL))


def latent(rows: int = 1, name: str = "reference") -> dict[str, Any]:
    return {"samples": seeded_input(3, name, rows, 4, HEIGHT, WIDTH) / SCALE}


def known(kind: str, **given: Any) -> Any:
    from restoration.nodes.zeroshot import KnownDegradation

    usual = {"scale": 2, "blur_sigma": 1.0, "quality": 50, **given}
    (result,) = KnownDegradation.execute(kind, **usual).result
    return result


def guided(model: Any, kind: str = "average_pool", **given: Any) -> Any:
    from restoration.nodes.guidance import DDNMGuidance

    usual = {"scale": 2, "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **given}
    if "image" not in usual:
        usual = {"latent": latent(), **usual}
    return DDNMGuidance.execute(model, kind, **usual).result[0]


def zero_shot(method: str, **given: Any) -> Any:
    from restoration.nodes.zeroshot import ZeroShotSampler

    usual = {"eta": 0.85, "eta_b": 1.0, "jump_length": 1, "jump_repeats": 1, **given}
    return ZeroShotSampler.execute(method, **usual).result[0]


def travel(
    name: str, length: int = 2, repeats: int = 2, start: float = 0.0, end: float = 1.0
) -> Any:
    import comfy.samplers

    from restoration.nodes.zeroshot import TimeTravelSampler

    inner = comfy.samplers.sampler_object(name)
    return TimeTravelSampler.execute(inner, length, repeats, start, end).result[0]


def run(model: Any, sampler: Any, samples: Tensor | None = None, **given: Any) -> Tensor:
    """The result, in the model's scale; `calls` in `given` gets every x0."""
    import comfy.sample
    import comfy.samplers

    if isinstance(sampler, str):
        sampler = comfy.samplers.sampler_object(sampler)
    calls, rows = given.pop("calls", []), given.pop("rows", 1)
    text = [
        conditioning(seeded_input(3, f"text {name}", 1, 7, SMALL["context_dim"]))
        for name in ("good", "bad")
    ]
    start = torch.zeros(rows, 4, HEIGHT, WIDTH) if samples is None else samples
    with torch.inference_mode():
        out = comfy.sample.sample_custom(
            model,
            seeded_input(3, "noise", 3, 4, HEIGHT, WIDTH)[:rows],
            3.0,
            sampler,
            torch.tensor(LEVELS),
            *text,
            start,
            callback=lambda i, x0, x, total: calls.append((i, x0.clone())),
            seed=5,
            **given,
        )
    return out * SCALE


def means(x: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(x, 2)


def test_a_known_degradation_is_the_old_one_bit_for_bit(model) -> None:
    old = run(guided(model), "euler")
    new = run(guided(model, "grayscale", known_degradation=known("average_pool")), "euler")
    assert torch.equal(old, new)


@pytest.mark.parametrize("repeats", [1, 2])
def test_ddnm_meets_the_measurement_and_asks_an_unguided_network(model, repeats) -> None:
    asked, plain = [], []
    sampler = zero_shot("ddnm", jump_length=2, jump_repeats=repeats)
    result = run(guided(model), sampler, calls=asked)
    run(model, "euler", calls=plain)
    torch.testing.assert_close(means(result), means(latent()["samples"] * SCALE), atol=1e-5, rtol=0)
    assert torch.equal(asked[0][1], plain[0][1])
    assert len(asked) == (5 if repeats == 1 else 9)
    assert torch.equal(result, run(guided(model), sampler))


def test_without_anything_known_and_noise_it_is_ddim(model, caplog) -> None:
    with caplog.at_level("INFO"):
        found = run(model, zero_shot("ddnm", eta=0.0))
    torch.testing.assert_close(found, run(model, "euler"), atol=1e-4, rtol=1e-4)
    assert "plain DDIM" in caplog.text


def test_ddrm_follows_a_noisy_measurement_less(model) -> None:
    target = means(latent()["samples"] * SCALE)

    def off(noise_level: float) -> float:
        result = run(guided(model, noise_level=noise_level), zero_shot("ddrm"))
        return float((means(result) - target).square().mean())

    far = float((means(run(model, zero_shot("ddrm"))) - target).square().mean())
    assert off(0.0) < off(0.9) < far


def test_ddrm_refuses_what_has_no_coordinates(model) -> None:
    with torch.inference_mode():
        vae = tiny_vae()
    picture = seeded_input(3, "picture", 1, 8 * HEIGHT, 8 * WIDTH, 3).sigmoid()
    in_pixels = guided(model, "grayscale", image=picture, vae=vae)
    with pytest.raises(ValueError, match="ddrm works on latents"):
        run(in_pixels, zero_shot("ddrm"))
    hole = known("inpaint", mask=torch.ones(1, 4, 6), before=known("average_pool"))
    with pytest.raises(ValueError, match="singular values"):
        run(guided(model, known_degradation=hole), zero_shot("ddrm"))
    with pytest.raises(ValueError, match="one measurement"):
        run(guided(guided(model)), zero_shot("ddrm"))


def painted() -> tuple[Tensor, Tensor]:
    """(a latent, its noise mask: 1 in the hole)."""
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[..., 2:6, 3:9] = 1
    return latent(name="whole")["samples"], mask


def test_repaint_keeps_what_is_known_and_fills_the_hole(model) -> None:
    samples, mask = painted()
    sampler = zero_shot("repaint", jump_length=2, jump_repeats=3)
    calls: list = []
    result = run(model, sampler, samples, noise_mask=mask, calls=calls)
    difference = (result - samples * SCALE).abs()
    assert difference[..., 0:2, :].max() < 1e-6 and difference[..., 2:6, 3:9].min() > 1e-4
    assert len(calls) == 5 + 2 * 2 * 2  # two jumps, each twice more
    with pytest.raises(ValueError, match="Set Latent Noise Mask"):
        run(model, sampler, samples)


INNER = ("euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "ddim", "uni_pc")


@pytest.mark.parametrize("name", INNER)
def test_one_repeat_is_the_inner_sampler_bit_for_bit(model, name) -> None:
    samples, mask = painted()
    given = {"samples": samples, "noise_mask": mask}
    assert torch.equal(run(model, travel(name, 2, 1), **given), run(model, name, **given))


@pytest.mark.parametrize("name", INNER)
def test_time_travel_goes_back_and_keeps_what_is_known(model, name) -> None:
    samples, mask = painted()
    steps: list = []
    result = run(model, travel(name), samples, noise_mask=mask, calls=steps)
    order = [i for i, _ in steps]
    assert order[0] == 0 and order[-1] == 4 and any(b < a for a, b in pairwise(order))
    alone = run(model, name, samples, noise_mask=mask)
    # Some samplers end a little above noise level 0.
    off, usual = ((each - samples * SCALE).abs()[..., 0:2, :].max() for each in (result, alone))
    assert off <= 2 * usual + 1e-5
    assert (result - alone).abs().max() > 1e-3
    assert torch.equal(result, run(model, travel(name), samples, noise_mask=mask))


def test_no_jump_leaves_its_part_of_the_run(model) -> None:
    late: list = []
    run(model, travel("euler", 1, 2, 0.6, 1.0), calls=late)
    order = [i for i, _ in late]
    early = [b for a, b in pairwise(order) if b <= a]
    sigma = float(model.get_model_object("model_sampling").percent_to_sigma(0.6))
    assert early and all(LEVELS[i] <= sigma for i in early)


def test_a_sampler_that_is_no_function_is_refused(comfy) -> None:
    from restoration.nodes.zeroshot import TimeTravelSampler

    class Other:
        def sample(self) -> None: ...

    with pytest.raises(ValueError, match="`sampler` is a Other"):
        TimeTravelSampler.execute(Other(), 1, 2, 0.0, 1.0)


def test_tiles_and_every_and_the_range_keep_their_meaning(model) -> None:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    whole = run(guided(model), zero_shot("ddnm"))
    one_tile = apply_tiles(guided(model), TilePlan(64, 8))
    assert torch.equal(run(one_tile, zero_shot("ddnm")), whole)
    rare = run(guided(model, every=5), zero_shot("ddnm"))
    target = means(latent()["samples"] * SCALE)
    torch.testing.assert_close(means(rare), target, atol=1e-5, rtol=0)
    assert not torch.equal(rare, whole)
    ended = run(guided(model, end_percent=0.3), zero_shot("ddnm"))
    assert (means(ended) - target).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["bicubic", "luma", "jpeg", "gaussian_blur"])
def test_pixels_are_asked_for_in_a_sentence(model, kind) -> None:
    with pytest.raises(ValueError, match=f"The degradation {kind}.* in pixels"):
        guided(model, known_degradation=known(kind))


def test_a_blurred_photo_is_no_blurred_twice_and_its_grain_is_not_magnified(comfy) -> None:
    """The reference of a blur is the photo itself; where it measures little, its noise counts little."""
    from types import SimpleNamespace

    from restoration.zeroshot.guide import PixelNullSpace, Trust

    operator, sharp = known("gaussian_blur").operator(), torch.rand(1, 3, 24, 32)

    def projected(x0: Tensor, photo: Tensor, rho: float) -> Tensor:
        vae = SimpleNamespace(patcher=None)
        guidance = PixelNullSpace(photo, vae, operator, Trust(), (0.0, 1.0), None)
        return guidance.projected(x0, "pixels", rho)

    photo = operator.degrade(sharp)
    torch.testing.assert_close(projected(sharp, photo, 0.0), sharp, atol=1e-4, rtol=0)
    found = projected(torch.full_like(sharp, 0.5), photo, 0.0)
    torch.testing.assert_close(operator.degrade(found), photo, atol=1e-4, rtol=0)
    grainy = photo + 0.02 * torch.randn_like(photo)
    plain, careful = ((projected(sharp, grainy, rho) - sharp).norm() for rho in (0.0, 0.01))
    assert careful < plain / 4
