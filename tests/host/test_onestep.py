"""OSEDiff and PiSA-SR in the host: their numbers whatever is around them, or a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.tests.host.networks import (
    SMALL,
    conditioning,
    core_controlnet,
    ldm_unet_config,
    seeded_input,
    tiny_vae,
    unet_model,
)
from restoration.tests.host.onestep_networks import (
    CONFIG,
    TEXT,
    answer,
    base_model,
    merged,
    onestep_model,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 8, 12
SCALE = 0.18215
LEVEL = 14.614642
"""The noisiest of Stable Diffusion, sqrt((1 - alpha_bar) / alpha_bar)."""
CLOSE = {"rtol": 1e-4, "atol": 2e-4}
KINDS = ("osediff", "pisasr")
WITHOUT_AN_END = ("dpm_fast", "dpm_adaptive", "uni_pc", "uni_pc_bh2")


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


@pytest.fixture(scope="module")
def model(host) -> Any:
    return base_model()


@pytest.fixture(scope="module")
def vae(host) -> Any:
    with torch.inference_mode():  # as a loader node makes it
        return tiny_vae()


@pytest.fixture(scope="module")
def files(host) -> dict[str, Any]:
    return {kind: onestep_model(kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def apply(model, vae, files) -> Any:
    """(MODEL to patch) -> patched MODEL, by the node of a method."""

    def run(kind: str, before: Any = None, **dials: Any) -> Any:
        return applied(before or model, vae, files[kind], **dials)

    return run


def applied(model: Any, vae: Any, file: Any, **dials: Any) -> Any:
    from restoration.nodes.onestep import OSEDiffApply, PiSASRApply

    if file.weights.kind == "osediff":
        return OSEDiffApply.execute(model, vae, file, **{"strength": 1.0, **dials}).result[0]
    dials = {"lambda_pix": 1.0, "lambda_sem": 1.0, **dials}
    return PiSASRApply.execute(model, file, **dials).result[0]


def text(name: str = "good") -> Tensor:
    return seeded_input(3, f"text {name}", 1, 7, TEXT)


def latent(rows: int = 1, name: str = "z") -> Tensor:
    """An encoded photo, in the network's scale."""
    return seeded_input(5, name, rows, 4, HEIGHT, WIDTH)


def restored(
    host: Any,
    model: Any,
    z: Tensor | None = None,
    *,
    sampler: str = "euler",
    scheduler: str = "simple",
    steps: int = 1,
    cfg: float = 1.0,
    denoise: float = 1.0,
    seed: int = 7,
    positive: list | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """x0 by core's KSampler, in the network's scale."""
    z = latent() if z is None else z
    given = {"samples": z / SCALE} | ({} if mask is None else {"noise_mask": mask})
    positive = positive or conditioning(text())
    with torch.inference_mode():
        (out,) = host.nodes.common_ksampler(
            model, seed, steps, cfg, sampler, scheduler, positive, conditioning(text("bad")), given,
            denoise=denoise,
        )  # fmt: skip
    return out["samples"] * SCALE


def by_hand(files: dict[str, Any], kind: str, z: Tensor | None = None, **dials: float) -> Tensor:
    """x0 from the base with adapters merged by hand, called directly."""
    z, weights = latent() if z is None else z, files[kind].weights
    if kind == "osediff":
        unet = merged(0, [weights.sets[""]], dict(weights.conv_in))
        return math.hypot(1, LEVEL) * z - LEVEL * answer(unet, z, 999, text())
    pix, full = (
        answer(merged(0, [weights.sets[name] for name in sets]), z, 1, text())
        for sets in (("pix",), ("pix", "sem"))
    )
    lambda_pix, lambda_sem = dials.get("lambda_pix", 1.0), dials.get("lambda_sem", 1.0)
    return z - (lambda_pix * pix + lambda_sem * (full - pix))


def weights_now(patcher: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in patcher.model.state_dict().items()}


def plain_run(host: Any, model: Any) -> Tensor:
    return restored(host, model, steps=2, cfg=4.0, scheduler="normal")


# -- the numbers, whatever is around ---------------------------------------------------------------


def test_one_step_of_the_stock_sampler_is_the_methods(host, apply, files, kind) -> None:
    torch.testing.assert_close(restored(host, apply(kind)), by_hand(files, kind), **CLOSE)


def test_strength_0_gives_back_what_came(model, vae, files) -> None:
    from restoration.nodes.onestep import OSEDiffApply

    same, same_vae = OSEDiffApply.execute(model, vae, files["osediff"], 0.0).result
    assert same is model and same_vae is vae
    patched, same_vae = OSEDiffApply.execute(model, vae, files["osediff"], 1.0, 0.0).result
    assert patched is not model and same_vae is vae


def test_the_plain_model_is_what_it_was(host, model, apply, kind) -> None:
    before, weights = plain_run(host, model), weights_now(model)
    first = restored(host, apply(kind))
    assert torch.equal(plain_run(host, model), before)
    host.model_management.unload_all_models()
    assert all(torch.equal(value, weights[name]) for name, value in weights_now(model).items())
    assert torch.equal(restored(host, apply(kind)), first), "and the next one is not built on ours"


def test_patched_and_plain_vae_go_in_either_order(host, vae, model, files) -> None:
    pixels = torch.sigmoid(seeded_input(9, "pixels", 1, 32, 48, 3))
    with torch.inference_mode():
        check_vaes(model, vae, files["osediff"], pixels)


def check_vaes(model: Any, vae: Any, file: Any, pixels: Tensor) -> None:
    from restoration.nodes.onestep import OSEDiffApply

    plain = vae.encode(pixels)
    patched = OSEDiffApply.execute(model, vae, file, 1.0).result[1]
    ours = patched.encode(pixels)
    assert (ours - plain).abs().max() > 0.01
    for _ in range(2):
        assert torch.equal(vae.encode(pixels), plain)
        assert torch.equal(vae.decode(ours), patched.decode(ours))
        assert torch.equal(patched.encode(pixels), ours)
    again = OSEDiffApply.execute(model, vae, file, 1.0).result[1]
    assert torch.equal(again.encode(pixels), ours), "made while another clone was loaded"


def test_it_is_made_while_a_patched_clone_is_loaded(host, model, apply, kind) -> None:
    alone = restored(host, apply(kind))
    restored(host, apply(kind, strength=0.5) if kind == "osediff" else apply(kind, lambda_pix=0.5))
    assert torch.equal(restored(host, apply(kind)), alone)


def lora(strength: float, model: Any) -> Any:
    """A user's own on the first layer, in full."""
    patched = model.clone()
    key = "diffusion_model.input_blocks.0.0.weight"
    change = 0.1 * seeded_input(6, "lora", *model.model.state_dict()[key].shape)
    patched.add_patches({key: ("diff", (change,))}, strength)
    return patched


def test_a_lora_adds_up_before_and_after(host, model, apply, kind) -> None:
    before, after = apply(kind, lora(1.0, model)), lora(1.0, apply(kind))
    twice = lora(0.5, apply(kind, lora(0.5, model)))
    found = [restored(host, each) for each in (before, after, twice)]
    assert (found[0] - restored(host, apply(kind))).abs().max() > 0.05
    torch.testing.assert_close(found[1], found[0], **CLOSE)
    torch.testing.assert_close(found[2], found[0], **CLOSE)


@pytest.mark.parametrize(
    ("rows", "seed"), [(3, 7), (1, 2**40)], ids=["a batch of three", "another seed"]
)
def test_neither_batch_nor_seed_matters(host, apply, kind, rows, seed) -> None:
    z, patched = latent(3), apply(kind)
    singles = torch.cat([restored(host, patched, each[None]) for each in z[:rows]])
    torch.testing.assert_close(restored(host, patched, z[:rows], seed=seed), singles, **CLOSE)


def test_every_sampler_and_scheduler_is_right_or_refused(host, apply, files, kind) -> None:
    """One step each: never another picture."""
    from comfy.samplers import SAMPLER_NAMES, SCHEDULER_NAMES

    patched, expected = apply(kind), by_hand(files, kind)
    pairs = [(name, "simple") for name in SAMPLER_NAMES]
    pairs += [("euler", name) for name in SCHEDULER_NAMES]
    refused = {}
    for sampler, scheduler in pairs:
        try:
            found = restored(host, patched, sampler=sampler, scheduler=scheduler)
        except ValueError as error:
            refused[sampler, scheduler] = str(error)
        else:
            torch.testing.assert_close(found, expected, **CLOSE, msg=f"{sampler} {scheduler}")
    never = {(name, "simple") for name in WITHOUT_AN_END} | {("euler", "kl_optimal")}
    assert set(refused) == never
    assert all("Use KSampler with steps 1, cfg 1" in said for said in refused.values())


def test_the_sigmas_node_gives_the_samplers_of_core_the_same(host, apply, kind) -> None:
    import comfy.sample
    import comfy.samplers

    from restoration.nodes.onestep import OneStepSigmas

    patched = apply(kind)
    (sigmas,) = OneStepSigmas.execute(patched).result
    z = latent()
    with torch.inference_mode():
        found = comfy.sample.sample_custom(
            patched, torch.zeros_like(z), 1.0, comfy.samplers.sampler_object("euler"), sigmas,
            conditioning(text()), conditioning(text("bad")), z / SCALE,
        )  # fmt: skip
    torch.testing.assert_close(found * SCALE, restored(host, patched), rtol=1e-5, atol=1e-5)


def test_a_noise_mask_keeps_what_lies_outside(host, apply, kind) -> None:
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[..., : WIDTH // 2] = 1
    patched, z = apply(kind), latent()
    found, whole = restored(host, patched, mask=mask), restored(host, patched)
    torch.testing.assert_close(found, torch.where(mask == 1, whole, z), **CLOSE)


def test_guidance_is_said_in_the_log(host, apply, caplog, kind) -> None:
    """The authors have none; what was asked for is done."""
    patched, title = apply(kind), {"osediff": "OSEDiff", "pisasr": "PiSA-SR"}[kind]
    good, bad = restored(host, patched), restored(host, patched, positive=conditioning(text("bad")))
    assert title not in caplog.text
    found = restored(host, patched, cfg=8.0)
    torch.testing.assert_close(found, bad + 8 * (good - bad), rtol=1e-3, atol=1e-3)
    (said,) = [r.getMessage() for r in caplog.records if title in r.getMessage()]
    assert "without guidance, and cfg is 8: " in said and said.endswith("Set cfg to 1.")


# -- what ends in a sentence -----------------------------------------------------------------------


def test_what_is_not_one_step_of_a_photo_gets_a_sentence(host, apply, kind) -> None:
    patched = apply(kind)
    half = latent(2)
    half[1] = 0
    title = {"osediff": "OSEDiff", "pisasr": "PiSA-SR"}[kind]
    for given, words in (
        (
            {"steps": 2},
            r"restores in one step, and the sampler was given 2: .*Use KSampler with st",
        ),
        ({"denoise": 0.5}, r"`denoise` below 1"),
        ({"z": torch.zeros_like(latent())}, r"the latent is empty.*VAE Encode of the photo"),
        ({"z": half}, r"the latent is empty"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            restored(host, patched, **given)
        assert str(error.value).startswith(f"Apply {title}: "), "whose it is"


def test_a_sampler_that_ends_early_is_found_under_a_soft_mask(host, apply, kind) -> None:
    mask = torch.full((1, 1, HEIGHT, WIDTH), 0.5)
    patched, z = apply(kind), latent()
    expected = (restored(host, patched) + z) / 2
    torch.testing.assert_close(restored(host, patched, mask=mask), expected, **CLOSE)
    with pytest.raises(ValueError, match="does not end at noise level 0"):
        restored(host, patched, mask=mask, sampler="dpm_fast")


def test_a_mask_that_widens_from_step_to_step_gets_a_sentence(host, apply, kind) -> None:
    """In one step it would restore nothing."""
    from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion

    patched = DifferentialDiffusion.execute(apply(kind), 1.0).result[0]
    assert torch.equal(restored(host, patched), restored(host, apply(kind)))
    with pytest.raises(ValueError, match=r"there is one step\. Take that node out"):
        restored(host, patched, mask=torch.ones(1, 1, HEIGHT, WIDTH))


def test_an_answer_that_is_no_number_is_not_the_samplers_fault(host, apply, kind) -> None:
    patched = apply(kind)
    patched.set_model_unet_function_wrapper(
        lambda run, call: run(call["input"], call["timestep"], **call["c"]) * torch.nan
    )
    with pytest.raises(ValueError, match=r"holds NaN or infinity: the precision.*--fp32-unet"):
        restored(host, patched)


def test_a_schedule_behind_ours_gets_a_sentence(host, apply, kind) -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (other,) = ModelSamplingDiscrete().patch(apply(kind), "v_prediction", False)
    with pytest.raises(ValueError, match=r"another node has replaced the schedule.*Model Sampling"):
        restored(host, other)


def test_a_model_has_one_rule(apply) -> None:
    for first, second in (("osediff", "osediff"), ("osediff", "pisasr"), ("pisasr", "osediff")):
        title = {"osediff": "OSEDiff", "pisasr": "PiSA-SR"}[first]
        with pytest.raises(ValueError, match=f"carries {title} already.*from before that node"):
            apply(second, apply(first))


@pytest.fixture(scope="module")
def sd15(host) -> Any:
    return unet_model(ldm_unet_config({**SMALL, "context_dim": 12}))


def test_another_base_or_file_gets_a_sentence(host, sd15, model, vae, files, kind) -> None:
    file, other = files[kind], files["pisasr" if kind == "osediff" else "osediff"]
    sdxl = unet_model(
        {**CONFIG.unet.unet_config(), "adm_in_channels": 8, "num_classes": "sequential"}
    )
    v = unet_model(CONFIG.unet.unet_config(), prediction="v")
    wanted = r"Stable Diffusion 2\.1 base .*connect that checkpoint"
    for base, words in (
        (sd15, r"`model` is a \w+ whose text features are 12 wide"),
        (sdxl, r"`model` is a"),
        (v, r"`model` predicts v, as the 768-pixel"),
    ):
        with pytest.raises(ValueError, match=rf"{words}.*{wanted}"):
            applied(base, vae, file)
    from restoration.nodes.onestep import OSEDiffApply, PiSASRApply

    node, given = (OSEDiffApply, (model, vae)) if kind == "osediff" else (PiSASRApply, (model,))
    dials = (1.0,) if kind == "osediff" else (1.0, 1.0)
    with pytest.raises(
        ValueError, match=rf"is {other.title} \({other.file}\).*Use Apply {other.title}"
    ):
        node.execute(*given, other, *dials)
    with pytest.raises(ValueError, match=r"is a Tensor\. Connect Load One-Step Restorer"):
        node.execute(*given, torch.zeros(1), *dials)


def test_a_vae_of_another_family_gets_a_sentence(host, model, files) -> None:
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    tiny = TAESD(latent_channels=4)
    weights = {f"taesd_encoder.{k}": v for k, v in tiny.taesd_encoder.state_dict().items()}
    weights |= {f"taesd_decoder.{k}": v for k, v in tiny.taesd_decoder.state_dict().items()}
    weights |= {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}
    taesd = comfy.sd.VAE(sd=weights)
    pixel_space = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    for each, words in (
        (taesd, r"`vae` lacks \d+ of the \d+ layers"),
        (pixel_space, r"`vae` (lacks|is a)"),
        (comfy.sd.VAE(sd={"x": torch.zeros(1)}), r"`vae` is a VAE without a network"),
    ):
        with pytest.raises(ValueError, match=rf"{words}.*VAE of the Stable Diffusion 1\.x or 2\.x"):
            applied(model, each, files["osediff"])


def test_adapters_of_other_widths_get_a_sentence(host, model, vae, files) -> None:
    """The host would log a line for each, and go on."""
    from restoration.onestep.keys import Adapter

    file = files["pisasr"]
    layer = "conv_out"
    up, down = file.weights.sets["sem"][layer]
    wrong = {**file.weights.sets["sem"], layer: Adapter(up, down[:, :-1])}
    sets = {**file.weights.sets, "sem": wrong}
    broken = replace(file, weights=replace(file.weights, sets=sets))
    with pytest.raises(
        ValueError, match=r"`model` has another shape.*adapter of its layer .*out\.2"
    ):
        applied(model, vae, broken)


def test_nodes_that_move_x0_or_read_levels_say_why_not(host, apply, model, kind) -> None:
    """By class it is no kind of prediction that they know."""
    from restoration.host.sampling import check_schedule, training_table

    patched = apply(kind)
    title = {"osediff": "OSEDiff", "pisasr": "PiSA-SR"}[kind]
    sampling = patched.get_model_object("model_sampling")
    for ask in (check_schedule, training_table):
        with pytest.raises(
            ValueError, match=rf"carries {title}, which restores in one step.*before"
        ):
            ask(sampling)


@pytest.fixture(scope="module")
def company(host) -> tuple[Any, Any]:
    """(a base model with everything that nodes of ours are wired to, every such node)"""
    from restoration.tests.matrix.columns import columns
    from restoration.tests.matrix.scene import Scene

    scene = Scene("small", 1, 0)
    assert scene.model.model.state_dict().keys() == base_model().model.state_dict().keys()
    return scene, columns()


GO_ALONG = {"RestorationCFG", "TiledRestoration", "DDNMGuidance"}
"""They move no x0 by noise levels."""
REPLACED = {"DiffBIRModelSampling"}
"""A model has one schedule: of two nodes that set it, the last one does."""


@pytest.mark.parametrize("ours_first", [True, False], ids=["behind", "before"])
def test_nodes_of_ours_beside_it_go_along_or_say_why_not(
    company, vae, files, kind, ours_first
) -> None:
    """Those that move x0 or read noise levels, in either order of nodes. They are found by being
    there."""
    scene, columns = company
    title = {"osediff": "OSEDiff", "pisasr": "PiSA-SR"}[kind]
    photo = {"samples": latent() / SCALE}
    said = set()
    for column in columns:
        name = column.wired.node.GET_SCHEMA().node_id
        if column.scene != "small" or name in ("OSEDiffApply", "PiSASRApply"):
            continue
        setup = replace(scene.setup, latent=photo["samples"])

        def one_step(setup: Any) -> Any:
            return replace(setup, model=applied(setup.model, vae, files[kind]))

        def other(setup: Any, column: Any = column) -> Any:
            return column.apply(setup, scene)

        first, last = (one_step, other) if ours_first else (other, one_step)
        try:
            found = scene_run(last(first(setup)))
        except ValueError as error:
            assert re.search(
                rf"carries {title}, which restores in one step|{title} would", str(error)
            )
            said.add(name)
        else:
            assert name in (GO_ALONG if ours_first else GO_ALONG | REPLACED), name
            assert found.isfinite().all(), name
    assert len(said) >= 4 and not said & GO_ALONG


def scene_run(setup: Any) -> Tensor:
    from restoration.tests.matrix.scene import sample

    return sample(setup, 1.0, 1, scheduler="simple")


def test_levels_and_samplers_of_ours_say_why_not(host, apply, kind) -> None:
    import comfy.sample

    from restoration.nodes.onestep import OneStepSigmas
    from restoration.nodes.sampling import LREmbeddedNoise, RestorationSampler, RestorationSigmas
    from restoration.nodes.style import StyleIDInvert

    patched, photo = apply(kind), {"samples": latent() / SCALE}
    (sigmas,) = OneStepSigmas.execute(patched).result

    def ours() -> Any:
        (sampler,) = RestorationSampler.execute("diffbir_spaced").result
        texts = conditioning(text()), conditioning(text("bad"))
        z = photo["samples"]
        with torch.inference_mode():
            return comfy.sample.sample_custom(patched, z, 1.0, sampler, sigmas, *texts, z)

    for ask in (
        lambda: RestorationSigmas.execute(patched, "diffbir_spaced", 4, 1.0),
        lambda: LREmbeddedNoise.execute(patched, photo, 7, sigmas, "pasd"),
        lambda: StyleIDInvert.execute(
            patched, conditioning(text()), photo, 4, "diffusers", "6,7,8", "cpu_fp32"
        ),
        ours,
    ):
        with pytest.raises(ValueError, match="which restores in one step by a rule of its own"):
            ask()
    with pytest.raises(ValueError, match="is no one-step model"):
        OneStepSigmas.execute(base_model())


# -- PiSA-SR's dials -------------------------------------------------------------------------------


DIALS = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.6, 1.4), (1.3, 0.5), (0.7, 0.7), (0.0, 0.0)]


@pytest.mark.parametrize(("lambda_pix", "lambda_sem"), DIALS)
def test_the_dials_weigh_outputs(host, apply, files, lambda_pix, lambda_sem) -> None:
    dials = {"lambda_pix": lambda_pix, "lambda_sem": lambda_sem}
    found = restored(host, apply("pisasr", **dials))
    torch.testing.assert_close(found, by_hand(files, "pisasr", **dials), **CLOSE)


def half_mask(value: float = 1.0) -> Tensor:
    """As fine as the picture: the left half."""
    mask = torch.zeros(1, 8 * HEIGHT, 8 * WIDTH)
    mask[..., : 4 * WIDTH] = value
    return mask


@pytest.mark.parametrize("pair", [(1.0, 1.0), (0.6, 1.4)], ids=str)
def test_a_mask_says_where_meaning_is_drawn(host, apply, pair) -> None:
    dials = dict(zip(("lambda_pix", "lambda_sem"), pair, strict=True))
    without = restored(host, apply("pisasr", **dials))
    white = restored(host, apply("pisasr", **dials, mask=torch.ones(1, 16, 16)))
    assert torch.equal(white, without)
    black = restored(host, apply("pisasr", **dials, mask=torch.zeros(1, 16, 16)))
    none = restored(host, apply("pisasr", **{**dials, "lambda_sem": 0.0}))
    assert torch.equal(black, none)
    half = restored(host, apply("pisasr", **dials, mask=half_mask()))
    where = torch.zeros(1, 1, HEIGHT, WIDTH)
    where[..., : WIDTH // 2] = 1
    torch.testing.assert_close(half, torch.lerp(none, without, where), **CLOSE)
    soft = restored(host, apply("pisasr", **dials, mask=half_mask(0.5)))
    torch.testing.assert_close(soft, torch.lerp(none, without, where / 2), **CLOSE)


@pytest.mark.parametrize(("fidelity", "factor"), [(0.0, 1.5), (0.5, 1.0), (1.0, 0.0)])
def test_fidelity_turns_the_meaning(host, apply, fidelity, factor) -> None:
    dials = {"lambda_pix": 0.9, "lambda_sem": 0.8}
    turned = restored(host, apply("pisasr", **dials, fidelity=fidelity))
    expected = restored(host, apply("pisasr", lambda_pix=0.9, lambda_sem=0.8 * factor))
    assert torch.equal(turned, expected)


@pytest.fixture
def calls(monkeypatch) -> Iterator[list[int]]:
    """Rows of every call of a UNet."""
    from comfy.ldm.modules.diffusionmodules import openaimodel

    rows: list[int] = []
    original = openaimodel.UNetModel._forward

    def spy(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        rows.append(x.shape[0])
        return original(self, x, *args, **kwargs)

    monkeypatch.setattr(openaimodel.UNetModel, "_forward", spy)
    return rows


def little_memory(patch: pytest.MonkeyPatch, free: float) -> None:
    from comfy import model_management as mm

    patch.setattr(mm, "get_free_memory", lambda _, both=False: (free, free) if both else free)


def test_one_call_of_two_rows_where_memory_allows(host, apply, calls, monkeypatch) -> None:
    patched, z = apply("pisasr", lambda_pix=0.6, lambda_sem=1.4), latent(2)
    doubled = restored(host, patched, z)
    assert calls == [4]
    with monkeypatch.context() as patch:
        # Enough for the host's own rows of one call, and not for twice as many.
        free = patched.model.memory_required([3, *z.shape[1:]]) * 1.5
        little_memory(patch, free)
        calls.clear()
        single = restored(host, patched, z)
    assert calls == [2, 2]
    torch.testing.assert_close(single, doubled, **CLOSE)
    calls.clear()
    for dials in ((1.0, 1.0), (1.0, 0.0), (0.4, 0.4)):
        restored(host, apply("pisasr", lambda_pix=dials[0], lambda_sem=dials[1]), z)
    assert calls == [2, 2, 2], "one evaluation where one is enough"


def test_out_of_memory_in_the_doubled_call_falls_back(host, apply, calls, monkeypatch) -> None:
    from comfy.ldm.modules.diffusionmodules import openaimodel

    patched = apply("pisasr", lambda_pix=0.6, lambda_sem=1.4)
    expected = restored(host, patched)
    forward = openaimodel.UNetModel._forward

    def too_much(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.shape[0] > 1:
            calls.append(-x.shape[0])
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(openaimodel.UNetModel, "_forward", too_much)
    calls.clear()
    torch.testing.assert_close(restored(host, patched), expected, **CLOSE)
    assert calls == [-2, 1, 1]

    def fails(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(openaimodel.UNetModel, "_forward", fails)
    with pytest.raises(RuntimeError, match="something else"):
        restored(host, patched)


def hooks_of(model: Any) -> int:
    return sum(len(module._forward_hooks) for module in model.model.modules())


def test_an_interrupt_leaves_no_hook(host, model, apply) -> None:
    from comfy import model_management as mm

    patched = apply("pisasr", lambda_pix=0.6, lambda_sem=1.4)
    expected, plain = restored(host, patched), plain_run(host, model)

    def interrupt(*_: Any) -> None:
        mm.interrupt_current_processing(True)
        mm.throw_exception_if_processing_interrupted()

    handle = model.model.diffusion_model.middle_block[0].register_forward_hook(interrupt)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            restored(host, patched)
    finally:
        handle.remove()
        mm.interrupt_current_processing(False)
    assert not hooks_of(model)
    assert torch.equal(plain_run(host, model), plain)
    assert torch.equal(restored(host, patched), expected)


def test_the_semantic_layers_are_the_hosts_to_load_and_their_rows_announced(host, apply) -> None:
    from comfy.patcher_extension import WrappersMP

    asked: list[int] = []

    def spy(executor: Any, model: Any, shape: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(shape[0])
        return executor(model, shape, *args, **kwargs)

    for dials, networks, rows in (((0.6, 1.4), 1, 4), ((1.0, 1.0), 0, 2)):
        patched = apply("pisasr", lambda_pix=dials[0], lambda_sem=dials[1])
        found = patched.get_nested_additional_models()
        assert len(found) == networks
        assert all(each.model_size() > 0 for each in found)
        patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "spy", spy)
        restored(host, patched, latent(2))
        assert asked.pop() == rows


def tiled(model: Any, width: int, batch: int = 1) -> Any:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    return apply_tiles(model, TilePlan(width, 4, batch))


@pytest.mark.parametrize("masked", [False, True], ids=["everywhere", "masked"])
def test_tiles_see_their_part_in_any_order_of_nodes(host, model, apply, masked) -> None:
    """One tile is the untiled run; tiles are the prediction of each, the mask cut to it."""
    stripes = torch.zeros(1, 8 * HEIGHT, 8 * WIDTH)
    stripes[..., 8 * 2 : 8 * 4], stripes[..., 8 * 9 : 8 * 11] = 1.0, 0.7
    mask = stripes if masked else None
    dials = {"lambda_pix": 0.6, "lambda_sem": 1.4, "mask": mask}
    patched = apply("pisasr", **dials)
    whole = restored(host, patched)
    assert torch.equal(restored(host, tiled(patched, 16)), whole)
    found = restored(host, tiled(patched, HEIGHT))
    assert torch.equal(restored(host, apply("pisasr", tiled(model, HEIGHT), **dials)), found)
    both = restored(host, tiled(patched, HEIGHT, 2))
    torch.testing.assert_close(both, found, **CLOSE)
    # What only one of the two tiles sees is that tile's own prediction.
    for place in (slice(0, HEIGHT), slice(WIDTH - HEIGHT, WIDTH)):
        own = slice(0, 4) if place.start == 0 else slice(4, HEIGHT)
        part = mask[..., 8 * place.start : 8 * place.stop] if masked else None
        alone = restored(host, apply("pisasr", **{**dials, "mask": part}), latent()[..., place])
        torch.testing.assert_close(found[..., place][..., own], alone[..., own], **CLOSE)


def test_a_mask_meets_areas_of_a_prompt(host, apply) -> None:
    """Without tiles nobody knows where an area lies; a mask cannot be cut to it."""
    area = (HEIGHT, WIDTH // 2, 0, 0)
    two = conditioning(text()) + conditioning(text("other"), area=area)
    dials = {"lambda_pix": 0.6, "lambda_sem": 1.4}
    assert restored(host, apply("pisasr", **dials), positive=two).isfinite().all()
    with pytest.raises(ValueError, match=r"^Apply PiSA-SR: `mask` cannot be laid over prompts"):
        restored(host, apply("pisasr", **dials, mask=half_mask()), positive=two)


def test_rows_of_a_batch_keep_their_masks(host, apply) -> None:
    masks = torch.cat([half_mask(), half_mask().flip(-1)])
    dials = {"lambda_pix": 0.6, "lambda_sem": 1.4}
    together = restored(host, apply("pisasr", **dials, mask=masks), latent(2))
    for row in range(2):
        alone = restored(
            host, apply("pisasr", **dials, mask=masks[row : row + 1]), latent(2)[row : row + 1]
        )
        torch.testing.assert_close(together[row : row + 1], alone, **CLOSE)


def test_a_controlnet_of_core_reaches_both_predictions(host, apply, files) -> None:
    hint = torch.sigmoid(seeded_input(9, "hint", 1, 8 * HEIGHT, 8 * WIDTH, 3))
    control = core_controlnet(CONFIG.unet.unet_config(), seed=3)
    positive = host.nodes.ControlNetApply().apply_controlnet(
        conditioning(text()), control, hint, 0.5
    )[0]
    z = latent(2)
    pix = restored(host, apply("pisasr", lambda_sem=0.0), z, positive=positive)
    full = restored(host, apply("pisasr"), z, positive=positive)
    assert (full - restored(host, apply("pisasr"), z)).abs().max() > 0.01
    found = restored(host, apply("pisasr", lambda_pix=0.6, lambda_sem=1.4), z, positive=positive)
    expected = z - 0.6 * (z - pix) - 1.4 * (pix - full)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.fixture
def pytorch_attention(host, monkeypatch) -> Iterator[None]:
    """The host's CPU default breaks a compiled graph by itself."""
    import comfy.ldm.modules.attention as attention
    from comfy.ldm.modules.attention import attention_pytorch

    for name in ("optimized_attention", "optimized_attention_masked"):
        monkeypatch.setattr(attention, name, attention_pytorch)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiled_unet_tells_the_two_predictions_apart(
    host, apply, pytorch_attention, monkeypatch
) -> None:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    def compiled(model: Any) -> Any:
        model = model.clone()
        set_torch_compile_wrapper(model=model, backend="eager")
        return model

    dials = apply("pisasr", lambda_pix=0.6, lambda_sem=1.4)
    plain = apply("pisasr", lambda_sem=0.0)
    for each, free in ((dials, 1e12), (plain, 1e12), (dials, 0.0)):
        little_memory(monkeypatch, free)
        torch.testing.assert_close(restored(host, compiled(each)), restored(host, each), **CLOSE)


def test_a_known_degradation_holds_for_the_one_step(host, apply, model, kind) -> None:
    """DDNM Guidance before the adapters or after them; what it says is met exactly, the rest is the step's."""
    from restoration.nodes.guidance import DDNMGuidance
    from restoration.zeroshot.operators import AveragePool, project

    reference = latent(name="reference")

    def guided(before: Any, **given: Any) -> Any:
        part = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **given}
        known = {"samples": reference / SCALE}
        node = DDNMGuidance.execute(before, "average_pool", 2, latent=known, **part)
        return node.result[0]

    plain, found = restored(host, apply(kind)), restored(host, guided(apply(kind)))
    torch.testing.assert_close(found, project(plain, reference, AveragePool(2)), **CLOSE)
    assert not torch.allclose(found, plain, atol=0.1)
    assert torch.equal(restored(host, apply(kind, guided(model))), found)
    with pytest.raises(ValueError, match=r"`noise_level` is 0\.1, but .* restores in one step"):
        guided(apply(kind), noise_level=0.1)
