"""Schedules, samplers, starts, CFG windows and guidance in the real host."""

from __future__ import annotations

import copy
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.diffbir.sampling import growing_cfg
from restoration.registry import samplers, schedules
from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    ldm_unet_config,
    seeded_input,
    tiny_vae,
    unet_model,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 12, 10
SCALE = 0.18215
FIRST = 0.4
"""Share of a run that lies before the middle of five steps."""


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


@pytest.fixture(scope="module")
def eps(host):
    return unet_model(ldm_unet_config(SMALL))


@pytest.fixture(scope="module")
def v21(host):
    """A v-prediction base as the host loads it, with DiffBIR's noise levels."""
    from restoration.nodes.guidance import DiffBIRModelSampling

    base = unet_model(ldm_unet_config(SMALL), prediction="v", zsnr=True)
    return DiffBIRModelSampling.execute(base, "v2.1").result[0]


@pytest.fixture(scope="module")
def vae(host):
    with torch.inference_mode():  # as a loader node makes it
        return tiny_vae()


@pytest.fixture(params=["eps", "v21"])
def model(request):
    return request.getfixturevalue(request.param)


def text(name: str) -> list:
    return conditioning(seeded_input(3, f"text {name}", 1, 7, SMALL["context_dim"]))


def latent(rows: int = 1, name: str = "lq", height: int = HEIGHT, width: int = WIDTH) -> dict:
    """A LATENT whose scale in the model is about one."""
    return {"samples": seeded_input(3, name, rows, 4, height, width) / SCALE}


def empty(rows: int = 1) -> dict:
    return {"samples": torch.zeros(rows, 4, HEIGHT, WIDTH)}


def sigmas_for(model, schedule: str = "diffbir_spaced", steps: int = 4, denoise: float = 1.0):
    from restoration.nodes.sampling import RestorationSigmas

    return RestorationSigmas.execute(model, schedule, steps, denoise).result[0]


def sampler_for(name: str = "diffbir_spaced", **options: Any):
    from restoration.nodes.sampling import RestorationSampler

    return RestorationSampler.execute(name, **options).result[0]


def run(
    model,
    sigmas: Tensor,
    sampler: Any = None,
    into: dict | None = None,
    noise: Tensor | None = None,
    cfg: float = 4.0,
    seed: int = 5,
    **options: Any,
) -> Tensor:
    """A whole run as SamplerCustom does it; noise: default from the seed, like RandomNoise."""
    import comfy.sample

    into = into or empty()
    with torch.inference_mode():
        if noise is None:
            noise = comfy.sample.prepare_noise(into["samples"], seed)
        return comfy.sample.sample_custom(
            model,
            noise,
            cfg,
            sampler or sampler_for(),
            sigmas,
            text("good"),
            text("bad"),
            into["samples"],
            noise_mask=into.get("noise_mask"),
            seed=seed,
            **options,
        )


class Watch:
    """A clone of a model that records every network call: its batch, timestep, input, sigma."""

    def __init__(self, model) -> None:
        from comfy.patcher_extension import WrappersMP

        self.model = model.clone()
        self.rows: list[int] = []
        self.timesteps: list[float] = []
        self.inputs: list[Tensor] = []

        def watch(executor, x, timesteps, *args, **kwargs):
            self.rows.append(len(x))
            self.timesteps.append(float(timesteps[0]))
            self.inputs.append(x.clone())
            return executor(x, timesteps, *args, **kwargs)

        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", watch)


def x0s(model, *args: Any, **kwargs: Any) -> list[Tensor]:
    """The predictions of every step of `run`."""
    seen: list[Tensor] = []
    run(model, *args, callback=lambda i, x0, x, total: seen.append(x0.clone()), **kwargs)
    return seen


# Noise levels


@pytest.mark.parametrize("schedule", schedules())
def test_sigmas_descend_and_the_network_sees_the_schedules_timesteps(model, schedule) -> None:
    from restoration.common.schedule import schedule_timesteps

    sigmas = sigmas_for(model, schedule, 5)
    assert (sigmas.diff() < 0).all()
    watch = Watch(model)
    run(watch.model, sigmas, sampler_for("pasd_unipc"))
    assert watch.timesteps == [round(t) for t in schedule_timesteps(schedules()[schedule], 5)]


def test_denoise_keeps_the_last_steps_of_a_longer_schedule(eps) -> None:
    part = sigmas_for(eps, "diffbir_edm", 5, 0.5)
    assert torch.equal(part, sigmas_for(eps, "diffbir_edm", 10)[-6:])
    assert len(sigmas_for(eps, "diffbir_edm", 5, 0.0)) == 0
    out = run(eps, sigmas_for(eps, "diffbir_edm", 5, 0.0), into=latent())
    assert torch.equal(out, latent()["samples"])  # as the host's own schedulers do


def test_diffbirs_levels_are_the_hosts_to_rounding(host, eps) -> None:
    from restoration.nodes.guidance import DiffBIRModelSampling

    stock = eps.get_model_object("model_sampling").sigmas
    ours = DiffBIRModelSampling.execute(eps, "eps").result[0].get_model_object("model_sampling")
    torch.testing.assert_close(ours.sigmas, stock, rtol=2e-7, atol=0)
    zero = unet_model(ldm_unet_config(SMALL), prediction="v", zsnr=True)
    stock = zero.get_model_object("model_sampling").sigmas
    ours = DiffBIRModelSampling.execute(zero, "v2.1").result[0].get_model_object("model_sampling")
    torch.testing.assert_close(ours.sigmas[:-1], stock[:-1], rtol=2e-6, atol=0)
    assert ours.sigmas[-1] == 1e4 and ours.zsnr


def test_model_sampling_leaves_its_input_alone(eps) -> None:
    from restoration.nodes.guidance import DiffBIRModelSampling

    before = run(eps, sigmas_for(eps))
    patched = DiffBIRModelSampling.execute(eps, "v2.1").result[0].clone().clone()
    changed = run(patched, sigmas_for(patched))
    assert not torch.allclose(changed, before)
    assert torch.equal(run(eps, sigmas_for(eps)), before)


def test_interpolated_time_reaches_network_and_rounds_nothing(eps) -> None:
    from restoration.nodes.guidance import DiffBIRModelSampling

    patched = DiffBIRModelSampling.execute(eps, "eps", "interpolated").result[0]
    watch = Watch(patched)
    run(watch.model, sigmas_for(patched, "diffbir_dpmpp_m2", 5), sampler_for("diffbir_dpmpp_m2"))
    assert watch.timesteps == pytest.approx([999, 799.2, 599.4, 399.6, 199.8], abs=1e-3)
    watch = Watch(patched)
    run(watch.model, sigmas_for(patched, "diffbir_spaced", 5))
    assert watch.timesteps == [999, 749, 500, 250, 0]


# Samplers


@pytest.mark.parametrize("name", ["diffbir_spaced", "diffbir_dpmpp_m2", "pasd_unipc", "seesr_ddpm"])
def test_samplers_repeat_themselves_bit_for_bit(model, name) -> None:
    sigmas = sigmas_for(model)
    first = run(model, sigmas, sampler_for(name))
    assert torch.isfinite(first).all()
    assert torch.equal(run(model, sigmas, sampler_for(name)), first)
    assert torch.equal(run(model.clone().clone(), sigmas, sampler_for(name)), first)
    if name in ("diffbir_spaced", "seesr_ddpm"):
        other = run(model, sigmas, sampler_for(name), noise=torch.zeros(1, 4, HEIGHT, WIDTH))
        again = run(
            model, sigmas, sampler_for(name), noise=torch.zeros(1, 4, HEIGHT, WIDTH), seed=6
        )
        assert not torch.allclose(other, again), "step noise does not follow the seed"


def test_an_image_does_not_depend_on_its_batch(model) -> None:
    import comfy.sample

    sigmas = sigmas_for(model)
    noise = comfy.sample.prepare_noise(empty(3)["samples"], 5)
    three = run(model, sigmas, into=empty(3), noise=noise)
    one = run(model, sigmas, into=empty(1), noise=noise[:1])
    torch.testing.assert_close(three[:1], one, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(three[0], three[1])


def test_spaced_equals_the_hosts_ddpm_on_an_eps_model(eps) -> None:
    from comfy.samplers import ksampler

    noise = [seeded_input(3, f"step {i}", 1, 4, HEIGHT, WIDTH) for i in range(4)]

    def replay():
        draws = iter(noise)
        return lambda sigma, sigma_next: next(draws)

    from restoration.host.sampling import restoration_sampler

    sigmas = sigmas_for(eps)
    theirs = run(eps, sigmas, ksampler("ddpm", {"noise_sampler": replay()}))
    ours = run(
        eps, sigmas, restoration_sampler(samplers()["diffbir_spaced"], noise_sampler=replay())
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-2)


def test_spaced_starts_v21_from_pure_noise(v21) -> None:
    """The first call sees exactly the noise, and its prediction owes nothing to x."""
    sigmas, watch = sigmas_for(v21), Watch(v21)
    noise = seeded_input(3, "noise", 1, 4, HEIGHT, WIDTH)
    first = x0s(watch.model, sigmas, noise=noise, cfg=1.0)[0]
    torch.testing.assert_close(watch.inputs[0], noise, rtol=1e-6, atol=1e-6)
    assert watch.timesteps[0] == 999
    # x0 = -v where A = 0
    watch = Watch(v21)
    outputs = []
    network = watch.model.model.diffusion_model
    handle = network.register_forward_hook(lambda m, a, out: outputs.append(out.clone()))
    try:
        run(watch.model, sigmas, noise=noise, cfg=1.0)
    finally:
        handle.remove()
    torch.testing.assert_close(first, -outputs[0], rtol=0, atol=1e-6)


def test_stock_samplers_stay_in_range_on_v21(v21) -> None:
    """Nothing blows up for someone who takes core's sampler with our noise levels."""
    from comfy.samplers import sampler_object

    for name in ("euler", "dpmpp_2m", "ddpm"):
        out = run(v21, sigmas_for(v21, "diffbir_edm", 6), sampler_object(name))
        assert torch.isfinite(out).all() and out.abs().max() * SCALE < 50


def test_runs_in_two_halves_equal_one_run(model) -> None:
    """The latent between two samplers is in the host's scale (SplitSigmas)."""
    sigmas, sampler = sigmas_for(model, "diffbir_edm", 6), sampler_for("pasd_unipc")
    watch = Watch(model)
    run(watch.model, sigmas, sampler)
    half = run(model, sigmas[:4], sampler)
    second = Watch(model)
    run(second.model, sigmas[3:], sampler, into={"samples": half}, noise=torch.zeros_like(half))
    torch.testing.assert_close(
        second.inputs[0][:1], _between(model, sigmas, half), rtol=1e-4, atol=1e-4
    )


def _between(model, sigmas: Tensor, samples: Tensor) -> Tensor:
    x = model.get_model_object("latent_format").process_in(samples)
    return x / (1 + sigmas[3] ** 2).sqrt()


def test_inpaint_mask_keeps_the_latent_outside(model) -> None:
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[..., : WIDTH // 2] = 1
    into = {**latent(), "noise_mask": mask}
    out = run(model, sigmas_for(model), into=into)
    kept = latent()["samples"][..., WIDTH // 2 :]
    torch.testing.assert_close(out[..., WIDTH // 2 :], kept, rtol=1e-5, atol=1e-4)


class Stop(Exception):
    pass


def test_an_interrupt_leaves_nothing_behind(model, vae) -> None:
    from restoration.nodes.guidance import LatentImageGuidance
    from restoration.nodes.sampling import RestorationCFG

    plain = run(model, sigmas_for(model))
    patched = RestorationCFG.execute(model, True, 0.0, 0.7).result[0]
    patched = rgb_guided(patched, vae)
    patched = LatentImageGuidance.execute(
        patched, "latent_mse", 0.01, 1, 0.0, 1.0, latent()
    ).result[0]
    whole = run(patched, sigmas_for(patched))

    def stop(i: int, *args: Any) -> None:
        if i == 1:
            raise Stop

    with pytest.raises(Stop):
        run(patched, sigmas_for(patched), callback=stop)
    assert all(g._decoder is None for g in guidances(patched) if hasattr(g, "_decoder"))
    assert torch.equal(run(model, sigmas_for(model)), plain)
    assert torch.equal(run(patched, sigmas_for(patched)), whole)


# Start points

STARTS = ("seesr", "pasd", "diffbir", "noise")


def start_for(model, sigmas: Tensor, start: str, into: dict | None = None, **options: Any):
    from restoration.nodes.sampling import LREmbeddedNoise

    return LREmbeddedNoise.execute(model, into or latent(), 9, sigmas, start, **options).result


def expected_start(model, sigmas: Tensor, start: str, noises: list[Tensor]) -> Tensor:
    """What the network must see first, by the formulas of the papers."""
    from restoration.common.schedule import signal

    table = model.get_model_object("model_sampling").sigmas
    z = latent()["samples"] * SCALE
    a = signal(table, 999)
    if start == "noise":
        return noises[0]
    x = (a**0.5) * z + (1 - a) ** 0.5 * noises[0]
    if start == "pasd":
        a_first = a if sigmas[0] >= table[-1] else float(1 / (1 + sigmas[0].double() ** 2))
        x = (a_first**0.5) * z + (1 - a_first) ** 0.5 * noises[0]
        level = signal(table, 700)
        x = (level**0.5) * x + (1 - level) ** 0.5 * noises[1]
    return x


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("schedule", ["diffbir_spaced", "seesr_ddpm"])  # 999 and below
def test_every_start_is_right_for_every_latent(host, model, schedule, start) -> None:
    import comfy.sample

    from restoration.common.sampling import derived_seed

    sigmas = sigmas_for(model, schedule, 20)
    source, noised = start_for(model, sigmas, start, added_noise_level=700)
    noises = [
        comfy.sample.prepare_noise(latent()["samples"], seed)
        for seed in (9, derived_seed(9, "PASD second noise"))
    ]
    expected = expected_start(model, sigmas, start, noises)
    for name, into in {"zeros": empty(), "low quality": latent(), "itself": noised}.items():
        watch = Watch(model)
        run(watch.model, sigmas[:2], into=into, noise=source.generate_noise(into))
        torch.testing.assert_close(
            watch.inputs[0][:1], expected, rtol=0, atol=5e-6, msg=lambda m, n=name: f"{n}: {m}"
        )
    # KSampler (Advanced) with add_noise disabled gives zeros as the noise.
    watch = Watch(model)
    run(watch.model, sigmas[:2], into=noised, noise=torch.zeros_like(noised["samples"]))
    torch.testing.assert_close(watch.inputs[0][:1], expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("start", STARTS)
def test_fidelity_turns_the_noise_level_of_pasd_alone(eps, start) -> None:
    def point(**options: float) -> torch.Tensor:
        return start_for(eps, sigmas_for(eps), start, **options)[1]["samples"]

    whole = point(added_noise_level=900)
    assert torch.equal(point(fidelity=0.5), whole)
    for fidelity, level in ((0.0, 999), (0.25, 950), (0.75, 450), (1.0, 0)):
        found = point(fidelity=fidelity)
        assert torch.equal(found, point(added_noise_level=level))
        assert torch.equal(found, whole) == (start != "pasd")


def test_noise_start_is_core_random_noise(eps) -> None:
    sigmas = sigmas_for(eps)
    source, _ = start_for(eps, sigmas, "noise")
    import comfy.sample

    drawn = comfy.sample.prepare_noise(empty()["samples"], 9)
    torch.testing.assert_close(source.generate_noise(empty()), drawn, rtol=0, atol=1e-6)
    assert source.seed == 9


def test_every_image_of_a_batch_starts_from_itself_and_keeps_its_noise(eps) -> None:
    sigmas = sigmas_for(eps)
    batch = latent(3)
    source, _ = start_for(eps, sigmas, "seesr", batch)
    whole = source.point(batch)
    picked = {"samples": batch["samples"][1:2], "batch_index": [1]}
    alone, _ = start_for(eps, sigmas, "seesr", picked)
    assert torch.equal(alone.point(picked), whole[1:2])
    # one picture for several noises
    single, _ = start_for(eps, sigmas, "seesr", latent())
    assert single.point(empty(3)).shape[0] == 3


@pytest.mark.parametrize("start", STARTS)
def test_frames_may_share_the_noise(eps, start) -> None:
    """Equal frames then stay equal to the end, also with a sampler that adds noise."""
    sigmas = sigmas_for(eps)
    frames = {"samples": latent()["samples"].expand(3, -1, -1, -1)}
    source, noised = start_for(eps, sigmas, start, frames, same_noise=True)
    own, _ = start_for(eps, sigmas, start, frames)
    drawn = source.generate_noise(frames)
    assert torch.equal(drawn[1], drawn[0]) and torch.equal(drawn[2], drawn[0])
    assert torch.equal(drawn[:1], own.generate_noise(frames)[:1])
    assert not torch.equal(own.generate_noise(frames)[1], drawn[0])
    assert noised["samples"].shape == frames["samples"].shape
    sampler = sampler_for("diffbir_spaced", same_noise=True)
    shared = run(eps, sigmas, sampler, frames, drawn)
    torch.testing.assert_close(shared[1:], shared[:1].expand(2, -1, -1, -1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shared[:1], run(eps, sigmas, into=frames, noise=drawn)[:1])
    # Frames that were picked from a longer video keep the noise of the first of them.
    picked = frames | {"batch_index": [4, 0, 1]}
    third, fifth = (each.generate_noise(picked) for each in (source, own))
    assert torch.equal(third[2], fifth[0])


def test_the_noised_latent_drops_the_mask_and_leaves_its_input_alone(eps) -> None:
    into = {**latent(), "noise_mask": torch.ones(1, HEIGHT, WIDTH)}
    before = into["samples"].clone()
    _, noised = start_for(eps, sigmas_for(eps), "seesr", into)
    assert "noise_mask" not in noised and "noise_mask" in into
    assert torch.equal(into["samples"], before)


def test_start_errors_say_what_to_do(eps) -> None:
    sigmas = sigmas_for(eps)
    source, _ = start_for(eps, sigmas, "seesr")
    with pytest.raises(ValueError, match="Wire the same LATENT"):
        source.generate_noise(latent(height=HEIGHT + 2))
    with pytest.raises(ValueError, match="no steps"):
        start_for(eps, sigmas[:0], "seesr")


# Classifier-free guidance


def cfg_patch(model, rescale: bool = False, start: float = 0.0, end: float = 1.0):
    from restoration.nodes.sampling import RestorationCFG

    return RestorationCFG.execute(model, rescale, start, end).result[0]


def test_a_cfg_window_saves_the_calls_and_changes_nothing_inside(model) -> None:
    sigmas = sigmas_for(model, "diffbir_edm", 5)
    plain = x0s(model, sigmas)
    watch = Watch(cfg_patch(model, end=FIRST))
    inside = x0s(watch.model, sigmas)
    guided = sum(rows == 2 for rows in watch.rows)
    assert 0 < guided < 5 and watch.rows == [2] * guided + [1] * (5 - guided)
    assert all(torch.equal(inside[i], plain[i]) for i in range(guided))
    assert not torch.allclose(inside[-1], plain[-1])


def test_outside_the_window_is_cfg_1_and_everywhere_is_nothing(model) -> None:
    sigmas = sigmas_for(model, "diffbir_edm", 5)
    off = cfg_patch(model, start=1.0, end=1.0)
    unguided = run(model, sigmas, cfg=1.0)
    torch.testing.assert_close(run(off, sigmas), unguided, rtol=1e-5, atol=1e-4)
    everywhere = cfg_patch(model)
    assert torch.equal(run(everywhere, sigmas), run(model, sigmas))
    growing = cfg_patch(model, rescale=True)
    assert torch.equal(run(growing, sigmas, cfg=1.0), unguided)


def test_growing_guidance_is_the_formula_and_ignores_node_order(model) -> None:
    from restoration.nodes.guidance import LatentImageGuidance

    sigmas = sigmas_for(model, "diffbir_spaced", 5)
    raw: list[dict] = []

    def remember(args: dict) -> Tensor:
        raw.append({k: args[k].clone() for k in ("cond_denoised", "uncond_denoised", "sigma")})
        return args["denoised"]

    def first_step(patched) -> Tensor:
        return x0s(patched, sigmas[[2, 3]], sampler_for("pasd_unipc"))[0]

    plain = model.clone()
    plain.set_model_sampler_post_cfg_function(remember)
    first_step(plain)
    cond, uncond = raw[0]["cond_denoised"], raw[0]["uncond_denoised"]
    expected = uncond + growing_cfg(4.0, 500) * (cond - uncond)
    torch.testing.assert_close(
        first_step(cfg_patch(model, rescale=True)), expected, rtol=1e-5, atol=2e-5
    )

    def guided(patched):
        return LatentImageGuidance.execute(
            patched, "latent_mse", 0.01, 1, 0.0, 1.0, latent()
        ).result[0]

    one = first_step(guided(cfg_patch(model, rescale=True)))
    other = first_step(cfg_patch(guided(model), rescale=True))
    assert torch.equal(one, other) and not torch.allclose(one, expected)


# Restoration guidance


def guided(model, loss: str = "latent_mse", scale: float = 0.01, **inputs: Any):
    from restoration.nodes.guidance import LatentImageGuidance

    inputs = {"repeat": 1, "start_percent": 0.0, "end_percent": 1.0, "latent": latent(), **inputs}
    return LatentImageGuidance.execute(model, loss, scale, **inputs).result[0]


def picture(rows: int = 1, height: int = HEIGHT * 8, width: int = WIDTH * 8) -> Tensor:
    return seeded_input(3, "picture", rows, height, width, 3).sigmoid()


def rgb_guided(model, vae, loss: str = "rgb_weighted_mse", scale: float = 0.002, **inputs: Any):
    inputs = {"image": picture(), "vae": vae, **inputs}
    return guided(model, loss, scale, **inputs)


def guidances(model) -> list:
    return model.model_options.get("sampler_post_cfg_function", [])


def test_guidance_pulls_to_the_latent_and_a_large_share_lands_on_it(model) -> None:
    sigmas, target = sigmas_for(model, "diffbir_edm", 4), latent()["samples"] * SCALE
    plain = x0s(model, sigmas)[-1]
    some = x0s(guided(model), sigmas)[-1]
    assert (some - target).square().mean() < (plain - target).square().mean()
    # At the last step the coefficient is 1: this scale moves all of the way.
    whole = 4 * HEIGHT * WIDTH / 6000
    final = x0s(guided(model, scale=whole), sigmas)[-1]
    torch.testing.assert_close(final, target, rtol=0, atol=1e-3)


EXTRA = (
    pytest.mark.slow
)  # masks and scales are no business of a loss: one in either space is enough
LOSSES = [
    "latent_mse",
    "rgb_mse",
    *(pytest.param(name, marks=EXTRA) for name in ("latent_mse_v1", "rgb_weighted_mse")),
    pytest.param("rgb_exposure", marks=EXTRA),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_masks_and_scale_0_are_exact(eps, vae, loss) -> None:
    sigmas = sigmas_for(eps, steps=2)
    patch = rgb_guided if loss.startswith("rgb") else guided
    extra = (vae,) if loss.startswith("rgb") else ()
    plain = run(eps, sigmas)
    everywhere = run(patch(eps, *extra, loss=loss, scale=0.002), sigmas)
    assert not torch.equal(everywhere, plain)
    for mask in (torch.ones(1, 3, 2), torch.ones(1, HEIGHT * 8, WIDTH * 8), torch.ones(7, 5)):
        masked = run(patch(eps, *extra, loss=loss, scale=0.002, mask=mask), sigmas)
        assert torch.equal(masked, everywhere), mask.shape
    zeros = torch.zeros(1, HEIGHT, WIDTH)
    assert torch.equal(run(patch(eps, *extra, loss=loss, scale=0.002, mask=zeros), sigmas), plain)
    assert torch.equal(run(patch(eps, *extra, loss=loss, scale=0.0), sigmas), plain)
    # One step: outside the mask not a bit changes.
    half = zeros.clone()
    half[..., :5] = 1
    (found,) = x0s(patch(eps, *extra, loss=loss, scale=0.002, mask=half), sigmas[:2])
    (without,) = x0s(eps, sigmas[:2])
    (with_all,) = x0s(patch(eps, *extra, loss=loss, scale=0.002), sigmas[:2])
    assert torch.equal(found[..., 5:], without[..., 5:])
    assert torch.equal(found[..., :5], with_all[..., :5])


@pytest.mark.parametrize("loss", ["latent_mse", "rgb_mse"])
def test_fidelity_turns_the_scale_of_guidance(eps, vae, loss) -> None:
    patch = rgb_guided if loss.startswith("rgb") else guided
    extra = (vae,) if loss.startswith("rgb") else ()

    def picture_of(**inputs: float) -> torch.Tensor:
        return run(patch(eps, *extra, loss=loss, **inputs), sigmas_for(eps, steps=2))

    for fidelity, scale in ((0.5, 0.002), (0.25, 0.001), (1.0, 0.004)):
        found = picture_of(scale=0.002, fidelity=fidelity)
        assert torch.equal(found, picture_of(scale=scale)), fidelity
    plain = run(eps, sigmas_for(eps, steps=2))
    assert torch.equal(picture_of(scale=0.002, fidelity=0.0), plain)
    assert not torch.equal(picture_of(scale=0.002), plain)


def test_guidance_survives_clones_and_reruns_bit_for_bit(model, vae) -> None:
    sigmas = sigmas_for(model, steps=2)
    for patched in (guided(model), rgb_guided(model, vae), rgb_guided(model, vae, "rgb_exposure")):
        first = run(patched, sigmas)
        assert torch.equal(run(patched, sigmas), first)
        assert torch.equal(run(patched.clone().clone(), sigmas), first)
        assert all(copy.deepcopy(g) is g for g in guidances(patched))
        assert all(g._decoder is None for g in guidances(patched) if hasattr(g, "_decoder"))


def test_two_guidances_act_one_after_the_other(eps) -> None:
    sigmas, other = sigmas_for(eps)[[2, 3]], latent(name="other")
    chained = guided(guided(eps), latent=other)
    (x0,), (once,) = (x0s(m, sigmas) for m in (eps, guided(eps)))
    (found,) = x0s(chained, sigmas)
    z, z2 = (each["samples"] * SCALE for each in (latent(), other))
    share = ((once - x0) / (z - x0)).median()
    torch.testing.assert_close(found, torch.lerp(once, z2, share), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found, x0s(guided(guided(eps, latent=other)), sigmas)[0])


@pytest.mark.parametrize("schedule", ["diffbir_spaced", "diffbir_edm"])
def test_the_first_guided_step_moves_by_the_formula(model, schedule) -> None:
    """Also from an infinite noise level, where the next one is not the one in the SIGMAS."""
    from restoration.diffbir.losses import latent_mse_weight, mean_coef

    sigmas = sigmas_for(model, schedule)
    (x0, *_), (found, *_) = (x0s(m, sigmas) for m in (model, guided(model)))
    first = float(sigmas[0]) if sigmas[0] < 1e3 else float("inf")
    coef = mean_coef(first, float(sigmas[1]))
    share = latent_mse_weight(0.01, 4 * HEIGHT * WIDTH, coef, 1)
    expected = torch.lerp(x0, latent()["samples"] * SCALE, share)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_guidance_acts_only_in_its_part_of_the_run(eps) -> None:
    sigmas = sigmas_for(eps, "diffbir_edm", 5)
    plain, late = x0s(eps, sigmas), x0s(guided(eps, start_percent=0.5), sigmas)
    same = [torch.equal(a, b) for a, b in zip(plain, late, strict=True)]
    assert same[0] and not same[-1]
    early = x0s(guided(eps, end_percent=0.1), sigmas)
    assert not torch.equal(plain[0], early[0])


def test_a_batch_is_guided_like_its_images(eps, vae) -> None:
    import comfy.sample

    noise = comfy.sample.prepare_noise(empty(3)["samples"], 5)
    sigmas = sigmas_for(eps, steps=3)
    for patch in (
        lambda: guided(eps, latent=latent(3)),
        lambda: rgb_guided(eps, vae, image=picture(3)),
    ):
        three = run(patch(), sigmas, into=empty(3), noise=noise)
        assert len(three) == 3
    one = guided(eps, latent={"samples": latent(3)["samples"][:1]})
    alone = run(one, sigmas, into=empty(), noise=noise[:1])
    three = run(guided(eps, latent=latent(3)), sigmas, into=empty(3), noise=noise)
    torch.testing.assert_close(three[:1], alone, rtol=1e-4, atol=1e-3)


def test_guidance_under_tiles_acts_on_the_whole_prediction(eps) -> None:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    tiled = apply_tiles(eps, TilePlan(8, 4))
    sigmas = sigmas_for(eps)[[2, 3]]
    (blended,) = x0s(tiled, sigmas)
    (found,) = x0s(guided(tiled), sigmas)
    (x0,), (once,) = (x0s(m, sigmas) for m in (eps, guided(eps)))
    z = latent()["samples"] * SCALE
    share = ((once - x0) / (z - x0)).median()
    torch.testing.assert_close(found, torch.lerp(blended, z, share), rtol=1e-3, atol=1e-3)


def test_guidance_works_with_every_kind_of_sampler(model) -> None:
    """Second-order samplers call the model between the run's noise levels."""
    from comfy.samplers import sampler_object

    sigmas = sigmas_for(model, "diffbir_edm", 5)
    for name in ("euler", "heun", "dpm_2", "dpmpp_sde", "dpmpp_3m_sde"):
        out = run(guided(model), sigmas, sampler_object(name))
        assert torch.isfinite(out).all(), name


def test_the_next_level_is_found_on_and_between_levels() -> None:
    from restoration.host.x0_guidance import next_sigma

    levels = torch.tensor([10.0, 4.0, 1.0, 0.0])
    assert [next_sigma(levels, s) for s in (10.0, 6.0, 4.0, 1.0, 0.5)] == [4.0, 4.0, 1.0, 0.0, 0.0]


def test_a_guidance_is_told_its_step_of_the_run(eps) -> None:
    from restoration.host.x0_guidance import GuidanceStep, X0Guidance, add_guidance

    steps: list[GuidanceStep] = []

    class Watching(X0Guidance):
        def guide(self, x0: Tensor, step: GuidanceStep) -> Tensor:
            steps.append(step)
            return x0

    sigmas, patched = sigmas_for(eps, steps=4), eps.clone()
    add_guidance(patched, Watching((0.0, 1.0), None))
    assert torch.equal(run(patched, sigmas), run(eps, sigmas))
    levels = sigmas.tolist()
    assert [(s.sigma, s.next_sigma) for s in steps] == list(pairwise(levels))
    assert all(step.model is eps.model for step in steps)


def test_rgb_guidance_brings_its_vae_and_pulls_to_the_picture(eps, vae) -> None:
    sigmas = sigmas_for(eps, steps=3)
    patched = rgb_guided(eps, vae, "rgb_mse", scale=0.02)
    loaded = [m.model for models in patched.additional_models.values() for m in models]
    assert loaded == [vae.first_stage_model]
    reserved = []

    def estimate(executor, model, shape, *args, **kwargs):
        reserved.append(model.model.memory_required([2 * shape[0], *shape[1:]]))
        return executor(model, shape, *args, **kwargs)

    from comfy.patcher_extension import WrappersMP

    watched = patched.clone()
    watched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "test", estimate)
    run(watched, sigmas)
    assert reserved[0] > 4 * vae.memory_used_decode((1, 4, HEIGHT, WIDTH), torch.float32)

    def distance(model) -> Tensor:
        with torch.inference_mode():
            decoded = vae.first_stage_model.decode(x0s(model, sigmas)[-1] / SCALE)
        return (decoded - (picture().movedim(-1, 1) * 2 - 1)).square().mean()

    assert distance(patched) < distance(eps)


def test_rgb_guidance_pulls_to_what_a_degradation_left(eps, vae) -> None:
    """And what it took away stays as the model has it: more of the picture than under plain rgb_mse."""
    from restoration.common.images import from_image
    from restoration.zeroshot.degradation import KnownDegradation

    sigmas, known = sigmas_for(eps, steps=3), KnownDegradation("average_pool", scale=8)
    operator, (target, _) = known.operator(), from_image(picture())

    def decoded(model) -> Tensor:
        with torch.inference_mode():
            return (vae.first_stage_model.decode(x0s(model, sigmas)[-1] / SCALE) + 1) / 2

    patched = rgb_guided(eps, vae, "rgb_mse", scale=0.02, known_degradation=known)
    there, plain = decoded(patched), decoded(eps)
    wanted = operator.degrade(target)
    assert (operator.degrade(there) - wanted).norm() < (operator.degrade(plain) - wanted).norm()
    small = rgb_guided(
        eps, vae, "rgb_mse", scale=0.02, image=wanted.movedim(1, -1), known_degradation=known
    )
    torch.testing.assert_close(decoded(small), there, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="is for the loss rgb_mse, not for rgb_exposure"):
        rgb_guided(eps, vae, "rgb_exposure", known_degradation=known)
    with pytest.raises(ValueError, match="Connect the node Known Degradation"):
        rgb_guided(eps, vae, "rgb_mse", known_degradation="bicubic")


def test_an_unknown_light_is_fitted_within_a_run_and_forgotten(eps, vae) -> None:
    sigmas = sigmas_for(eps, steps=4)
    patched = rgb_guided(eps, vae, "rgb_exposure", scale=0.5, image=0.3 * picture())
    (guidance,) = guidances(patched)
    seen: list[float] = []

    def watch(*_: Any) -> None:
        seen.extend(float(f) for f, _ in guidance.compare.lights.values())

    run(patched, sigmas, callback=watch)
    assert len(set(seen)) == len(seen) == 4
    assert not guidance.compare.lights


def test_guidance_errors_say_what_to_connect(eps, vae) -> None:
    with pytest.raises(ValueError, match="connect `latent`"):
        guided(eps, latent=None)
    with pytest.raises(ValueError, match="connect `image`"):
        guided(eps, "rgb_mse")
    with pytest.raises(ValueError, match="at the same size"):
        run(guided(eps, latent=latent(height=HEIGHT + 2)), sigmas_for(eps))
    with pytest.raises(ValueError, match=f"picture being sampled {WIDTH * 8}x{HEIGHT * 8}"):
        run(rgb_guided(eps, vae, image=picture(height=64, width=64)), sigmas_for(eps))
    with pytest.raises(ValueError, match="`latent` has 2 images"):
        run(guided(eps, latent=latent(2)), sigmas_for(eps), into=empty(3))
