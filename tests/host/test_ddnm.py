"""DDNM's projection in the real host: what is measured stays, in latents and in pixels."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    seeded_input,
    tiny_vae,
    unet_model,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 11, 14
SCALE = 0.18215
LEVELS = [12.0, 4.0, 1.0, 0.3, 0.0]


@pytest.fixture(scope="module")
def host(comfy):
    return comfy


@pytest.fixture(scope="module")
def eps(host):
    return unet_model(ldm_unet_config(SMALL))


@pytest.fixture(scope="module")
def v(host):
    return unet_model(ldm_unet_config(SMALL), prediction="v")


@pytest.fixture(params=["eps", "v"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def vae(host):
    with torch.inference_mode():  # as a loader node makes it
        return tiny_vae()


def latent(
    rows: int = 1, name: str = "reference", height: int = HEIGHT, width: int = WIDTH
) -> dict:
    return {"samples": seeded_input(3, name, rows, 4, height, width) / SCALE}


def picture(rows: int = 1, height: int = 8 * HEIGHT, width: int = 8 * WIDTH) -> Tensor:
    return seeded_input(3, "picture", rows, height, width, 3).sigmoid()


def guided(model, degradation: str = "average_pool", **given: Any):
    from restoration.nodes.guidance import DDNMGuidance

    if "image" not in given:
        given = {"latent": latent(), **given}
    given = {"scale": 3, "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **given}
    return DDNMGuidance.execute(model, degradation, **given).result[0]


def predictions(
    model, rows: int = 1, sampler: str = "euler", levels: list[float] = LEVELS, cfg: float = 3.0
) -> list[Tensor]:
    """x0 of every step of a run from noise, and the LATENT it ends with, in the model's scale."""
    import comfy.sample
    import comfy.samplers

    text = [
        conditioning(seeded_input(3, f"text {name}", 1, 7, SMALL["context_dim"]))
        for name in ("good", "bad")
    ]
    seen: list[Tensor] = []
    with torch.inference_mode():
        out = comfy.sample.sample_custom(
            model,
            seeded_input(3, "noise", 3, 4, HEIGHT, WIDTH)[:rows],
            cfg,
            comfy.samplers.sampler_object(sampler),
            torch.tensor(levels),
            *text,
            torch.zeros(rows, 4, HEIGHT, WIDTH),
            callback=lambda i, x0, x, total: seen.append(x0.clone()),
            seed=5,
        )
    return [*seen, out * SCALE]


def means(x: Tensor, scale: int) -> dict[tuple[int, int], Tensor]:
    """The mean of every block, by slicing; those at an edge are of what they have."""
    return {
        (top, left): x[..., top : top + scale, left : left + scale].mean((-2, -1))
        for top in range(0, x.shape[-2], scale)
        for left in range(0, x.shape[-1], scale)
    }


def same_means(found: Tensor, expected: Tensor, scale: int, tolerance: float = 2e-5) -> None:
    for (where, a), b in zip(
        means(found, scale).items(), means(expected, scale).values(), strict=True
    ):
        torch.testing.assert_close(a, b.expand_as(a), rtol=0, atol=tolerance, msg=str(where))


# In latents


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_every_prediction_and_the_result_have_the_references_means(model, cfg) -> None:
    found, plain = predictions(guided(model), cfg=cfg), predictions(model, cfg=cfg)
    assert len(found) == len(LEVELS)
    for x0 in found:
        same_means(x0, latent()["samples"] * SCALE, 3)
    assert not torch.allclose(found[0], latent()["samples"] * SCALE, atol=0.1)
    # What the means do not tell is the model's, unchanged.
    moved = (found[0] - plain[0])[..., :3, :3]
    torch.testing.assert_close(moved, moved[..., :1, :1].expand_as(moved), rtol=0, atol=2e-5)


def test_the_small_reference_is_the_large_one(eps) -> None:
    reference = latent()["samples"]
    small = torch.nn.functional.avg_pool2d(reference, 3, ceil_mode=True, count_include_pad=False)
    assert small.shape[-2:] == (4, 5)
    for a, b in zip(
        predictions(guided(eps, latent={"samples": small})), predictions(guided(eps)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_inpainting_keeps_known_cells_and_leaves_the_hole_to_the_model(eps) -> None:
    known = torch.ones(1, HEIGHT, WIDTH)
    known[:, 3:8, 4:9] = 0
    found = predictions(guided(eps, "inpaint", mask=known))
    reference, hole = latent()["samples"] * SCALE, known[:, None].expand(1, 4, -1, -1) == 0
    for x0 in found:
        torch.testing.assert_close(x0[~hole], reference[~hole], rtol=0, atol=1e-5)
    assert torch.equal(found[0][hole], predictions(eps)[0][hole])
    assert not torch.equal(found[1][hole], predictions(eps)[1][hole])  # it fits its surroundings


def test_strength_is_a_share_of_the_way(eps) -> None:
    levels = LEVELS[:2]
    plain, part, whole = (
        predictions(m, levels=levels)[0] for m in (eps, guided(eps, strength=0.25), guided(eps))
    )
    torch.testing.assert_close(part, 0.75 * plain + 0.25 * whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("degradation", ["average_pool", "inpaint"])
def test_off_and_masks_are_exact(eps, degradation) -> None:
    plain = predictions(eps)[-1]
    for off in (
        {"strength": 0.0},
        {"mask": torch.zeros(1, 5, 7)},
        {"start_percent": 1.0},
        {"end_percent": 0.0},
    ):
        assert torch.equal(predictions(guided(eps, degradation, **off))[-1], plain), off
    everywhere = predictions(guided(eps, degradation))[-1]
    for size in ((3, 2), (HEIGHT, WIDTH), (8 * HEIGHT, 8 * WIDTH)):
        masked = guided(eps, degradation, mask=torch.ones(1, *size))
        assert torch.equal(predictions(masked)[-1], everywhere), size


def test_range_is_that_part_of_the_run(eps) -> None:
    plain, early = predictions(eps), predictions(guided(eps, end_percent=0.5))
    late = predictions(guided(eps, start_percent=0.5))
    reference = latent()["samples"] * SCALE
    same_means(early[0], reference, 3)
    same_means(late[-1], reference, 3)
    assert torch.equal(late[0], plain[0])
    with pytest.raises(AssertionError):
        same_means(early[-1], reference, 3)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_has_one_reference_or_one_each(eps, rows) -> None:
    reference = latent(rows)
    together = predictions(guided(eps, latent=reference), rows=3)[0]
    for row in range(3):
        same_means(together[row], reference["samples"][row % rows] * SCALE, 3)


@pytest.mark.parametrize(
    "sampler", ["euler", "euler_ancestral", "heun", "dpm_2", "dpmpp_2m", "dpmpp_sde", "ddim"]
)
def test_any_sampler_ends_on_the_measurement(model, sampler) -> None:
    same_means(predictions(guided(model), sampler=sampler)[-1], latent()["samples"] * SCALE, 3)


def test_clones_and_reruns_repeat_bit_for_bit(eps, vae) -> None:
    plain = predictions(eps)[-1]
    for patched in (guided(eps), guided(eps, image=picture(), vae=vae)):
        first = predictions(patched)[-1]
        assert torch.equal(predictions(patched)[-1], first)
        assert torch.equal(predictions(patched.clone().clone())[-1], first)
        (guidance,) = patched.model_options["sampler_post_cfg_function"]
        assert copy.deepcopy(guidance) is guidance
    assert torch.equal(predictions(eps)[-1], plain)


def test_two_projections_act_one_after_the_other(eps) -> None:
    """Means of the one where it is known, cells of the other: the last one wins exactly."""
    known = torch.zeros(1, HEIGHT, WIDTH)
    known[..., :6] = 1
    other = latent(name="other")
    patched = guided(guided(eps), "inpaint", latent=other, mask=known)
    x0 = predictions(patched)[0]
    torch.testing.assert_close(x0[..., :6], other["samples"][..., :6] * SCALE, rtol=0, atol=1e-5)
    same_means(x0[..., 6:], latent()["samples"][..., 6:] * SCALE, 3)


def test_under_tiles_the_whole_prediction_is_projected(eps) -> None:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    tiled = guided(apply_tiles(eps, TilePlan(8, 4)))
    for x0 in predictions(tiled):
        same_means(x0, latent()["samples"] * SCALE, 3)


# In pixels


class Spy:
    """A VAE that remembers the pixels it decoded to and encoded."""

    def __init__(self, vae: Any) -> None:
        self.vae, self.patcher = vae, vae.patcher
        self.decoded: list[Tensor] = []
        self.encoded: list[Tensor] = []

    def decode(self, samples: Tensor) -> Tensor:
        pixels = self.vae.decode(samples)
        self.decoded.append(pixels.movedim(-1, 1).clone())
        return pixels

    def encode(self, pixels: Tensor) -> Tensor:
        self.encoded.append(pixels.movedim(-1, 1).clone())
        return self.vae.encode(pixels)


@pytest.mark.parametrize("scale", [4, 7])
def test_pixels_have_the_references_means_before_they_are_encoded(eps, vae, scale) -> None:
    spy = Spy(vae)
    found = predictions(guided(eps, image=picture(), vae=spy, scale=scale))
    assert len(spy.encoded) == len(LEVELS) - 1
    for pixels in spy.encoded:
        same_means(pixels, picture().movedim(-1, 1), scale, 1e-5)
    with torch.inference_mode():
        expected = vae.encode(spy.encoded[0].movedim(1, -1)) * SCALE
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-5)
    small = interpolate(picture().movedim(-1, 1), scale_factor=1 / 4, mode="area").movedim(1, -1)
    if scale == 4:
        again = predictions(guided(eps, image=small, vae=vae, scale=4))
        torch.testing.assert_close(again[0], found[0], rtol=0, atol=1e-4)


def test_colorization_keeps_the_brightness_and_the_models_colors(eps, vae) -> None:
    spy = Spy(vae)
    gray = picture().mean(-1, keepdim=True)
    predictions(guided(eps, "grayscale", image=gray, vae=spy))
    for before, after in zip(spy.decoded, spy.encoded, strict=True):
        torch.testing.assert_close(
            after.mean(1), gray[..., 0].expand_as(after.mean(1)), rtol=0, atol=1e-5
        )
        torch.testing.assert_close(
            after[:, 0] - after[:, 2], before[:, 0] - before[:, 2], rtol=0, atol=1e-5
        )


def test_a_hole_in_pixels_never_shows_what_the_reference_has_there(eps, vae) -> None:
    """Not through the VAE's encoder either, which looks at neighbors."""
    known = torch.ones(1, 8 * HEIGHT, 8 * WIDTH)
    known[:, 20:70, 30:80] = 0
    found = []
    for filling in (0.0, 1.0):
        image = torch.where(known[..., None] > 0, picture(), filling)
        spy = Spy(vae)
        found.append(predictions(guided(eps, "inpaint", image=image, vae=spy, mask=known)))
        hole = known[:, None].expand(1, 3, -1, -1) == 0
        shown = picture().movedim(-1, 1)[~hole]
        torch.testing.assert_close(spy.encoded[0][~hole], shown, rtol=0, atol=1e-6)
        assert torch.equal(spy.encoded[0][hole], spy.decoded[0][hole])
    assert torch.equal(found[0][-1], found[1][-1])
    # Cells that lie wholly in the hole do not pass through the VAE.
    assert torch.equal(found[0][0][..., 3:8, 4:10], predictions(eps)[0][..., 3:8, 4:10])


def test_the_vae_comes_along_and_may_push_the_model_out(eps, vae) -> None:
    from comfy import model_management as mm

    spy = Spy(vae)
    encode = spy.encode

    def greedy(pixels: Tensor) -> Tensor:
        out = encode(pixels)
        mm.unload_all_models()  # as on a card that holds only one of the two
        return out

    spy.encode = greedy
    patched = guided(eps, image=picture(), vae=spy)
    loaded = [m.model for models in patched.additional_models.values() for m in models]
    assert loaded == [vae.first_stage_model]
    in_use: list[bool] = []

    def check(args: dict) -> Tensor:
        models = [each.model for each in mm.loaded_models(only_currently_used=True)]
        in_use.append(any(each is args["model"] for each in models))
        return args["denoised"]

    patched.set_model_sampler_post_cfg_function(check)
    predictions(patched)
    assert in_use == [True] * (len(LEVELS) - 1)


def test_interrupting_between_decodes(eps, vae) -> None:
    from comfy import model_management as mm

    spy = Spy(vae)
    decode = spy.decode

    def press(samples: Tensor) -> Tensor:
        out = decode(samples)
        if len(spy.decoded) == 2:
            mm.interrupt_current_processing(True)
        return out

    spy.decode = press
    plain = predictions(eps)[-1]
    with pytest.raises(mm.InterruptProcessingException):
        predictions(guided(eps, image=picture(), vae=spy))
    assert len(spy.decoded) == 2
    assert torch.equal(predictions(eps)[-1], plain)


# Refusals


def test_what_is_missing_is_said(eps, vae) -> None:
    with pytest.raises(ValueError, match=r"connect `latent` .* or `image` and `vae`"):
        guided(eps, latent=None)
    for given in ({"image": picture()}, {"latent": latent()}):
        with pytest.raises(ValueError, match=r"grayscale .* connect both `image`"):
            guided(eps, "grayscale", **given)
    with pytest.raises(ValueError, match="connect both `image`"):
        guided(eps, image=picture())


def test_wrong_sizes_are_said_with_the_right_ones(eps, vae) -> None:
    for given, sentence in (
        ({"latent": latent(height=12)}, "14x12 latent cells .* sampled 14x11 .* small one, 5x4"),
        (
            {"image": picture(height=64, width=64), "vae": vae},
            "64x64 pixels .* sampled 112x88 .* small one, 38x30",
        ),
        ({"latent": {"samples": torch.ones(1, 16, HEIGHT, WIDTH)}}, "16 channels, .* with 4"),
    ):
        with pytest.raises(ValueError, match=sentence):
            predictions(guided(eps, **given))
    with pytest.raises(
        ValueError, match=r"sampled 14x11 with 4\. Give it a reference of that size\."
    ):
        predictions(guided(eps, "inpaint", latent=latent(height=12)))
    with pytest.raises(ValueError, match="`reference` has 2 images"):
        predictions(guided(eps, latent=latent(2)), rows=3)


def test_other_predictions_are_refused(eps) -> None:
    import comfy.model_sampling as ms

    other = eps.clone()
    sampling = type("Other", (ms.ModelSamplingDiscrete, ms.CONST), {})()
    other.add_object_patch("model_sampling", sampling)
    with pytest.raises(ValueError, match="predicts as CONST"):
        guided(other)
