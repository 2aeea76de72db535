"""DiffBIR's control branch in the real host: chains, batches, masks, areas, tiles, interrupts."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from restoration.common.diffusion import q_sample
from restoration.common.state_dict import CheckpointError
from restoration.common.tiling import Tile
from restoration.tests.golden import seeded
from restoration.tests.golden.runners_diffbir import control_config
from restoration.tests.host.networks import (
    SMALL,
    call_model,
    conditioning,
    core_controlnet,
    ldm_unet_config,
    sample,
    seeded_input,
    sigmas_of,
    tiny_vae,
    unet_model,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 12, 10
SCALE = 0.18215


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


@pytest.fixture(scope="module")
def model(host):
    return unet_model(ldm_unet_config(SMALL))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    from restoration.diffbir.keys import layout

    values = seeded.state_dict(11, layout(control_config(SMALL)))
    return {key: torch.from_numpy(value) for key, value in values.items()}


@pytest.fixture(scope="module")
def control(host, weights):
    from restoration.diffbir.load import diffbir_control

    return diffbir_control(weights, control_config(SMALL))


@pytest.fixture(scope="module")
def vae(host):
    return tiny_vae()


def text(name: str, rows: int = 1) -> Tensor:
    return seeded_input(3, f"text {name}", rows, 7, SMALL["context_dim"])


def latent(rows: int = 1, height: int = HEIGHT, width: int = WIDTH, name: str = "hint") -> dict:
    """A LATENT whose scale in the model is about one."""
    return {"samples": seeded_input(3, name, rows, 4, height, width) / SCALE}


def empty(rows: int = 1, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.zeros(rows, 4, height, width)


def apply(control, hint: dict | None = None, before: tuple | None = None, **inputs: Any) -> tuple:
    """Positive and negative through the node."""
    from restoration.nodes.diffbir import LAControlApply

    positive, negative = before or (conditioning(text("good")), conditioning(text("bad")))
    inputs = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **inputs}
    out = LAControlApply.execute(positive, negative, control, hint or latent(), **inputs)
    return out.result


def plain() -> tuple:
    return conditioning(text("good")), conditioning(text("bad"))


def noisy(rows: int = 1, height: int = HEIGHT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """One call's input: x in the variance-preserving scale, and its timesteps."""
    return seeded_input(5, "x", rows, 4, height, width), torch.full((rows,), 500)


class Calls:
    """Counts the control network's runs and keeps their inputs."""

    def __init__(self, control) -> None:
        self.network = control.control_model
        self.inputs: list[dict[str, Tensor]] = []

    def __enter__(self) -> Calls:
        def remember(module, args, inputs) -> None:
            self.inputs.append({**inputs, "hint": inputs["x"][:, 4:]})

        self.handle = self.network.register_forward_pre_hook(remember, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()

    @property
    def rows(self) -> list[int]:
        return [inputs["x"].shape[0] for inputs in self.inputs]


def test_control_changes_the_picture(host, model, control) -> None:
    controlled = sample(host, model, *apply(control), empty())
    assert (controlled - sample(host, model, *plain(), empty())).abs().mean() > 0.01


def test_strength_0_is_the_plain_model(host, model, control) -> None:
    expected = sample(host, model, *plain(), empty())
    positive, negative = apply(control, strength=0.0)
    assert "control" not in positive[0][1]
    assert torch.equal(sample(host, model, positive, negative, empty()), expected)
    positive, negative = apply(control)
    positive[0][1]["control"].strength = 0.0
    assert torch.equal(sample(host, model, positive, negative, empty()), expected)


def test_fidelity_turns_the_strength(model, control) -> None:
    def pictures(**inputs: float) -> list[Tensor]:
        return call_model(model, *noisy(), *apply(control, **inputs))

    for fidelity, strength in ((0.5, 0.8), (0.0, 0.4), (0.75, 1.0), (1.0, 1.2)):
        found = pictures(strength=0.8, fidelity=fidelity)
        assert all(map(torch.equal, found, pictures(strength=strength))), fidelity
    assert not torch.equal(pictures(strength=0.8)[0], pictures(strength=0.8, fidelity=0.6)[0])
    with pytest.raises(ValueError, match="`fidelity` is 3; it goes from 0"):
        apply(control, fidelity=3.0)


MASK_SIZES = [(1, 1), (7, 5), (HEIGHT, WIDTH), (8 * HEIGHT, 8 * WIDTH), (97, 81)]


@pytest.mark.parametrize("size", MASK_SIZES, ids=str)
def test_white_mask_is_no_mask_and_black_mask_is_no_control(model, control, size) -> None:
    for height, width in ((HEIGHT, WIDTH), (13, 11)):
        hint, call = latent(1, height, width), noisy(1, height, width)
        white = apply(control, hint, mask=torch.ones(1, *size))
        black = apply(control, hint, mask=torch.zeros(1, *size))
        for masked, expected in ((white, apply(control, hint)), (black, plain())):
            pairs = zip(
                call_model(model, *call, *masked), call_model(model, *call, *expected), strict=True
            )
            assert all(torch.equal(found, same) for found, same in pairs)


def test_white_and_black_mask_through_a_whole_run(host, model, control) -> None:
    white = apply(control, mask=torch.ones(1, 97, 81))
    black = apply(control, mask=torch.zeros(1, 97, 81))
    for masked, expected in ((white, apply(control)), (black, plain())):
        assert torch.equal(
            sample(host, model, *masked, empty()), sample(host, model, *expected, empty())
        )


def test_black_mask_saves_the_branch(host, model, control) -> None:
    with Calls(control) as calls:
        sample(host, model, *apply(control, mask=torch.zeros(1, 8, 8)), empty())
    assert not calls.inputs


def residuals(model, control, x: Tensor, timesteps: Tensor, **inputs: Any) -> list[Tensor]:
    """What the branch hands to the UNet, as the host asks for it."""
    positive, _ = apply(control, **inputs)
    attached = positive[0][1]["control"]
    seen = []
    original = attached.control_merge

    def keep(*args: Any, **more: Any):
        merged = original(*args, **more)
        seen.extend([*merged["output"], *merged["middle"]])
        return merged

    attached.control_merge = keep
    call_model(model, x, timesteps, positive)
    return seen


def test_mask_and_strength_scale_every_residual(model, control) -> None:
    x, timesteps = noisy()
    whole = residuals(model, control, x, timesteps)
    mask = torch.rand(1, HEIGHT, WIDTH)
    masked = residuals(model, control, x, timesteps, mask=mask, strength=0.6)
    assert len(whole) == len(masked) == 5
    for full, part in zip(whole, masked, strict=True):
        size = full.shape[-2:]
        scale = torch.nn.functional.interpolate(mask[None], size, mode="area")
        torch.testing.assert_close(part, full * scale * 0.6, rtol=1e-5, atol=1e-6)


def test_a_mask_per_picture(host, model, control) -> None:
    """Row 0 is controlled, row 1 is the plain model's."""
    x, timesteps = noisy(2)
    mask = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
    (out,) = call_model(model, x, timesteps, apply(control, mask=mask)[0])
    (everywhere,) = call_model(model, x, timesteps, apply(control)[0])
    (nowhere,) = call_model(model, x, timesteps, plain()[0])
    assert torch.equal(out[0], everywhere[0]) and torch.equal(out[1], nowhere[1])


@pytest.mark.parametrize(
    ("start", "end", "expected"), [(0, 1, 4), (0, 0.5, 2), (0.5, 1, 2), (0, 0, 0), (0.99, 1, 1)]
)
def test_percent_range_runs_exactly_those_steps(host, model, control, start, end, expected) -> None:
    """Four steps of the normal schedule, at 0, 1/3, 2/3 and 1 of the timesteps."""
    conds = apply(control, start_percent=start, end_percent=end)
    ms = model.get_model_object("model_sampling")
    first, last = ms.percent_to_sigma(start), ms.percent_to_sigma(end)
    from comfy.samplers import calculate_sigmas

    sigmas = calculate_sigmas(ms, "normal", 4)[:-1]
    inside = sum(last <= float(sigma) <= first for sigma in sigmas)
    with Calls(control) as calls:
        sample(host, model, *conds, empty(), steps=4)
    assert len(calls.inputs) == inside
    assert inside == expected


def test_both_branches_run_in_one_call_and_cfg_1_runs_one(host, model, control) -> None:
    for rows in (1, 3):
        with Calls(control) as calls:
            sample(host, model, *apply(control), empty(rows), steps=2, cfg=4.0)
            sample(host, model, *apply(control), empty(rows), steps=2, cfg=1.0)
        assert calls.rows == [2 * rows, 2 * rows, rows, rows]


def test_each_branch_gets_its_own_text(host, model, control) -> None:
    with Calls(control) as calls:
        sample(host, model, *apply(control), empty(), steps=1)
    context = calls.inputs[0]["context"]
    assert {tuple(context[i].flatten()[:3].tolist()) for i in range(2)} == {
        tuple(text(name).flatten()[:3].tolist()) for name in ("good", "bad")
    }


def test_every_row_gets_its_own_hint(model, control) -> None:
    x, timesteps = noisy(3)
    hint = latent(3)
    (batch,) = call_model(model, x, timesteps, apply(control, hint)[0])
    for row in range(3):
        one = {"samples": hint["samples"][row : row + 1]}
        (alone,) = call_model(model, x[row : row + 1], timesteps[:1], apply(control, one)[0])
        torch.testing.assert_close(batch[row : row + 1], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_smaller_hint_batch_is_repeated_in_the_order_of_latents(model, control, rows) -> None:
    x, timesteps = noisy(4)
    hint = latent(rows)
    repeated = {"samples": hint["samples"].repeat(4 // rows, 1, 1, 1)}
    (few,) = call_model(model, x, timesteps, *apply(control, hint)[:1])
    (all_rows,) = call_model(model, x, timesteps, *apply(control, repeated)[:1])
    assert torch.equal(few, all_rows)


@pytest.mark.parametrize(("hints", "rows"), [(2, 3), (3, 1)])
def test_a_hint_batch_that_cannot_be_shared_out_is_refused(
    host, model, control, hints, rows
) -> None:
    with pytest.raises(ValueError, match=f"{hints} images, but there are {rows}"):
        sample(host, model, *apply(control, latent(hints)), empty(rows))


def test_repeated_runs_and_clones_agree_bit_for_bit(host, model, control) -> None:
    conds = apply(control, noise_aug=50)
    first = sample(host, model, *conds, empty())
    for patcher in (model, model.clone(), model.clone().clone()):
        assert torch.equal(sample(host, patcher, *conds, empty()), first)
        assert torch.equal(sample(host, patcher, *apply(control, noise_aug=50), empty()), first)


def test_nothing_of_a_run_survives_it(host, model, control) -> None:
    conds = apply(control, mask=torch.ones(1, 4, 4))
    attached = conds[0][0][1]["control"]
    before = dict(vars(attached))
    sample(host, model, *conds, empty())
    after = vars(attached)
    assert {k for k in before if after[k] is not before[k]} == set()
    assert control.cond_hint_original is None and control.previous_controlnet is None


def test_copy_shares_the_network_and_nothing_else(control) -> None:
    attached = apply(control, mask=torch.ones(1, 4, 4), noise_aug=5)[0][0][1]["control"]
    copied = attached.copy()
    assert type(copied) is type(attached)
    assert copied.control_model is attached.control_model
    assert copied.get_models() == attached.get_models() == control.get_models()
    for name in ("mask", "noise_level", "noise", "latent_format", "cond_hint_original", "strength"):
        assert getattr(copied, name) is getattr(attached, name), name
    assert copied.previous_controlnet is None
    assert copied.compression_ratio == 1 and copied.extra_conds == []


# --- with other ControlNets -----------------------------------------------------------------


def core_apply(host, conds: tuple, net, picture: Tensor, vae=None, strength: float = 1.0) -> tuple:
    """Core's own Apply ControlNet."""
    node = host.nodes.ControlNetApplyAdvanced()
    return node.apply_controlnet(*conds, net, picture, strength, 0.0, 1.0, vae)


def picture(rows: int = 1, height: int = 8 * HEIGHT, width: int = 8 * WIDTH) -> Tensor:
    """A smooth IMAGE, B H W 3."""
    coarse = torch.sigmoid(seeded_input(9, "picture", rows, 3, 6, 5))
    pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return pixels.movedim(1, -1)


def summed(model, x: Tensor, timesteps: Tensor, controls: list[dict]) -> Tensor:
    """The UNet's output with the residuals of several branches added up by hand."""
    sigma = sigmas_of(model, timesteps)
    scale = (1 + sigma**2).sqrt()[:, None, None, None]
    total = {
        key: [sum(parts) for parts in zip(*(c[key] for c in controls), strict=True)]
        for key in ("output", "middle")
    }
    with torch.no_grad():
        denoised = model.model.apply_model(
            x * scale, sigma, c_crossattn=text("good"), control=total, transformer_options={}
        )
    return (x * scale - denoised) / sigma[:, None, None, None]


def test_chains_with_core_controlnets_before_and_after(host, model, control) -> None:
    x, timesteps = noisy()
    before, after = (core_controlnet(ldm_unet_config(SMALL), seed) for seed in (21, 22))
    conds = core_apply(host, plain(), before, picture(), strength=0.7)
    conds = apply(control, before=conds, strength=0.8)
    conds = core_apply(host, conds, after, picture().flip(1), strength=0.9)
    (chained,) = call_model(model, x, timesteps, conds[0])

    network = {"timesteps": timesteps.float(), "context": text("good")}
    hint = latent()["samples"] * SCALE
    with torch.no_grad():
        residuals, middle = control.control_model(x=torch.cat([x, hint], 1), **network)
        outputs = [
            before.control_model(x=x, hint=picture().movedim(-1, 1), **network),
            {"output": residuals, "middle": [middle]},
            after.control_model(x=x, hint=picture().flip(1).movedim(-1, 1), **network),
        ]
    scaled = [
        {key: [r * strength for r in value] for key, value in output.items()}
        for output, strength in zip(outputs, (0.7, 0.8, 0.9), strict=True)
    ]
    torch.testing.assert_close(chained, summed(model, x, timesteps, scaled), rtol=1e-4, atol=2e-5)


def test_two_half_strength_controls_are_one(host, model, control) -> None:
    twice = apply(control, before=apply(control, strength=0.5), strength=0.5)
    once = sample(host, model, *apply(control), empty())
    torch.testing.assert_close(sample(host, model, *twice, empty()), once, rtol=1e-4, atol=1e-4)


def test_two_controls_with_different_hints_keep_them_apart(host, model, control) -> None:
    other = latent(name="other hint")
    x, timesteps = noisy()
    conds = apply(control, other, before=apply(control))
    with Calls(control) as calls:
        call_model(model, x, timesteps, conds[0])
    hints = [inputs["hint"] for inputs in calls.inputs]
    torch.testing.assert_close(hints[0], latent()["samples"] * SCALE)
    torch.testing.assert_close(hints[1], other["samples"] * SCALE)


def test_a_lora_on_the_base_stays_in_effect(host, model, control) -> None:
    key = "diffusion_model.input_blocks.1.0.in_layers.2.weight"
    shape = model.model.state_dict()[key].shape
    patched = model.clone()
    patched.add_patches({key: ("diff", (0.1 * seeded_input(1, "lora", *shape),))}, 1.0)
    base = sample(host, model, *apply(control), empty())
    with_lora = sample(host, patched, *apply(control), empty())
    assert (with_lora - base).abs().mean() > 1e-3
    black = apply(control, mask=torch.zeros(1, 2, 2))
    assert torch.equal(
        sample(host, patched, *black, empty()), sample(host, patched, *plain(), empty())
    )
    assert torch.equal(sample(host, model, *apply(control), empty()), base)


# --- a picture and a VAE, through core's Apply ControlNet -----------------------------------


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_core_apply_with_a_vae_is_the_same_as_the_latent(host, model, control, vae, rows, cfg):
    image = picture(rows)
    encoded = {"samples": vae.encode(image)}
    ours = sample(host, model, *apply(control, encoded), empty(rows), cfg=cfg)
    core = sample(
        host, model, *core_apply(host, plain(), control, image, vae), empty(rows), cfg=cfg
    )
    torch.testing.assert_close(core, ours, rtol=0, atol=1e-5)


def test_a_picture_that_vae_encode_would_crop_is_cropped_alike(host, model, control, vae) -> None:
    image = picture(1, 8 * HEIGHT + 5, 8 * WIDTH + 3)
    ours = sample(host, model, *apply(control, {"samples": vae.encode(image)}), empty())
    core = sample(host, model, *core_apply(host, plain(), control, image, vae), empty())
    torch.testing.assert_close(core, ours, rtol=0, atol=1e-5)


def test_a_picture_of_other_size_is_resized_if_its_proportions_fit(host, model, control, vae):
    small = picture(1, 4 * HEIGHT, 4 * WIDTH)
    with Calls(control) as calls:
        sample(host, model, *core_apply(host, plain(), control, small, vae), empty(), steps=1)
    from restoration.common.resample import resize

    enlarged = resize(small.movedim(-1, 1), 8 * HEIGHT, 8 * WIDTH).movedim(1, -1)
    torch.testing.assert_close(calls.inputs[0]["hint"][:1], vae.encode(enlarged) * SCALE)
    with pytest.raises(ValueError, match="proportions differ"):
        conds = core_apply(host, plain(), control, picture(1, 64, 64), vae)
        sample(host, model, *conds, empty())


def test_a_picture_without_a_vae_is_refused(host, model, control) -> None:
    conds = core_apply(host, plain(), control, picture())
    with pytest.raises(ValueError, match="connect a VAE to Apply ControlNet, or use Apply LA"):
        sample(host, model, *conds, empty())


def test_the_picture_is_encoded_once_a_run(host, model, control, vae, monkeypatch) -> None:
    calls = []
    original = vae.encode
    monkeypatch.setattr(vae, "encode", lambda pixels: calls.append(1) or original(pixels))
    conds = core_apply(host, plain(), control, picture(), vae)
    sample(host, model, *conds, empty(), steps=4)
    assert len(calls) == 1


# --- wrong things ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH + 2), (2 * HEIGHT, 2 * WIDTH), (6, 5)], ids=str)
def test_a_latent_of_another_size_is_refused_not_squeezed(host, model, control, size) -> None:
    with pytest.raises(ValueError, match="very picture that is sampled") as error:
        sample(host, model, *apply(control, latent(1, *size)), empty())
    assert f"{size[1]}x{size[0]}" in str(error.value) and f"{WIDTH}x{HEIGHT}" in str(error.value)


def test_other_networks_latents_and_texts_are_refused(host, model, control) -> None:
    with pytest.raises(ValueError, match="ControlNet, not the DiffBIR control network"):
        apply(core_controlnet(ldm_unet_config(SMALL)))
    with pytest.raises(ValueError, match=r"\(1, 16, 12, 10\)"):
        apply(control, {"samples": torch.zeros(1, 16, HEIGHT, WIDTH)})
    wide = conditioning(torch.zeros(1, 7, 24))
    with pytest.raises(ValueError, match="24 wide, the DiffBIR control needs 16"):
        sample(host, model, *apply(control, before=(wide, wide)), empty())


def test_an_empty_latent_gets_a_warning(control, caplog) -> None:
    apply(control, {"samples": empty()})
    assert "empty latent" in caplog.text
    caplog.clear()
    apply(control)
    assert not caplog.text


# --- noise augmentation ---------------------------------------------------------------------


@pytest.mark.parametrize(("prediction", "zsnr"), [("eps", False), ("v", True)])
def test_noise_augmentation_uses_the_models_own_schedule(host, control, prediction, zsnr) -> None:
    model = unet_model(ldm_unet_config(SMALL), prediction=prediction, zsnr=zsnr)
    x, timesteps = noisy(2)
    hint = latent(2)
    conds = apply(control, hint, noise_aug=200, noise_aug_seed=5)
    with Calls(control) as calls:
        call_model(model, x, timesteps, conds[0])
    import comfy.sample

    noise = comfy.sample.prepare_noise(hint["samples"], 5)
    alpha_bar = 1 / (1 + float(sigmas_of(model, torch.tensor(200))) ** 2)
    expected = q_sample(hint["samples"] * SCALE, noise, alpha_bar)
    torch.testing.assert_close(calls.inputs[0]["hint"], expected)


def test_noise_augmentation_is_the_same_in_both_branches_and_at_all_steps(host, model, control):
    with Calls(control) as calls:
        sample(host, model, *apply(control, noise_aug=100), empty(), steps=3)
        sample(host, model, *apply(control, noise_aug=100, noise_aug_seed=1), empty(), steps=1)
    *same, other = [inputs["hint"] for inputs in calls.inputs]
    for hint in same:
        assert torch.equal(hint, same[0]) and torch.equal(hint[0], hint[1])
    assert not torch.equal(other, same[0])


def test_noise_belongs_to_the_picture_not_to_its_place_in_the_batch(host, model, control) -> None:
    whole = latent(3)
    one = {"samples": whole["samples"][2:], "batch_index": [2]}
    with Calls(control) as calls:
        sample(host, model, *apply(control, whole, noise_aug=100), empty(3), steps=1, cfg=1.0)
        sample(host, model, *apply(control, one, noise_aug=100), empty(1), steps=1, cfg=1.0)
    assert torch.equal(calls.inputs[0]["hint"][2:], calls.inputs[1]["hint"])


# --- areas and tiles ------------------------------------------------------------------------


def cropped(hint: dict, tile: Tile) -> dict:
    return {"samples": tile.crop(hint["samples"])}


AREA = Tile(4, 2, 8, 6, HEIGHT, WIDTH)


def as_area(tile: Tile) -> tuple[int, int, int, int]:
    return (tile.height, tile.width, tile.y, tile.x)


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_area_sees_its_own_part_of_the_latent(model, control, when) -> None:
    """Set Area before or after Apply: the same as a picture that is only that part."""
    x, timesteps = noisy()
    area = {"area": as_area(AREA)}
    if when == "before":
        positive, _ = apply(control, before=(conditioning(text("good"), **area), plain()[1]))
    else:
        positive, _ = apply(control)
        positive = [[positive[0][0], {**positive[0][1], **area}]]
    (out,) = call_model(model, x, timesteps, positive)
    part = apply(control, cropped(latent(), AREA))[0]
    (expected,) = call_model(model, AREA.crop(x), timesteps, part)
    torch.testing.assert_close(AREA.crop(out), expected, rtol=1e-4, atol=1e-5)


def test_areas_of_equal_size_run_in_one_call_each_with_its_part(model, control) -> None:
    x, timesteps = noisy()
    other = Tile(0, 4, 8, 6, HEIGHT, WIDTH)
    entries = [
        conditioning(text("good"), area=as_area(AREA), strength=1.0)[0],
        conditioning(text("good"), area=as_area(other), strength=1.0)[0],
    ]
    positive, _ = apply(control, before=(entries, plain()[1]), mask=torch.rand(1, HEIGHT, WIDTH))
    with Calls(control) as calls:
        call_model(model, x, timesteps, positive)
    assert calls.rows == [2]
    scaled = latent()["samples"] * SCALE
    parts = {tuple(hint.flatten()[:4].tolist()) for hint in calls.inputs[0]["hint"]}
    for tile, row in ((AREA, 0), (other, 1)):
        assert tuple(tile.crop(scaled)[0].flatten()[:4].tolist()) in parts, row


def test_area_and_whole_picture_sample_together(host, model, control) -> None:
    entries = [
        conditioning(text("good"))[0],
        conditioning(text("bad"), area=("percentage", 0.5, 0.5, 0.25, 0.25), strength=1.0)[0],
    ]
    conds = apply(control, before=(entries, plain()[1]), mask=torch.rand(1, 24, 20))
    out = sample(host, model, *conds, empty(2))
    assert torch.isfinite(out).all()
    assert torch.equal(sample(host, model, *conds, empty(2)), out)


def test_an_area_beyond_the_hint_is_refused(model, control) -> None:
    x, timesteps = noisy(1, 24, 20)
    conds = conditioning(text("good"), area=(8, 6, 14, 4)), plain()[1]
    with pytest.raises(ValueError, match="very picture that is sampled"):
        call_model(model, x, timesteps, apply(control, before=conds)[0])


def tiled(model, size: int, overlap: int, weighting: str = "gaussian"):
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    return apply_tiles(model, TilePlan(size, overlap, weighting=weighting))


def test_one_tile_is_the_untiled_run(host, model, control) -> None:
    for conds in (apply(control), apply(control, mask=torch.rand(1, 9, 9))):
        assert torch.equal(
            sample(host, tiled(model, 12, 4), *conds, empty()),
            sample(host, model, *conds, empty()),
        )


def test_tiles_crop_hint_mask_and_area_and_are_blended(model, control) -> None:
    """Against tiles cut and blended by hand."""
    from restoration.common.tiling import normalized_weights, plan_tiles

    height, width = 20, 18
    x, timesteps = noisy(1, height, width)
    hint, mask = latent(1, height, width), torch.rand(1, height, width)
    positive, _ = apply(control, hint, mask=mask)
    (found,) = call_model(tiled(model, 8, 3), x, timesteps, positive)
    tiles = plan_tiles(height, width, 8, 3)
    expected = torch.zeros_like(x)
    for tile, weight in zip(tiles, normalized_weights(tiles), strict=True):
        part, _ = apply(control, cropped(hint, tile), mask=tile.crop(mask))
        (eps,) = call_model(model, tile.crop(x), timesteps, part)
        tile.crop(expected).add_(eps * weight.float())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_area_inside_tiles_is_mapped(model, control) -> None:
    """Two hard tiles without overlap: each computes its part of the area alone."""
    x, timesteps = noisy(1, 16, 8)
    hint = latent(1, 16, 8)
    area = Tile(4, 0, 8, 8, 16, 8)
    conds = conditioning(text("good"), area=as_area(area)), plain()[1]
    positive, _ = apply(control, hint, before=conds)
    (found,) = call_model(tiled(model, 8, 0, "uniform"), x, timesteps, positive)
    for top in (4, 8):
        part = Tile(top, 0, 4, 8, 16, 8)
        alone, _ = apply(control, cropped(hint, part))
        (expected,) = call_model(model, part.crop(x), timesteps, alone)
        torch.testing.assert_close(part.crop(found), expected, rtol=1e-4, atol=1e-5)


def test_masked_prompts_under_tiles(model, control) -> None:
    """Core's Conditioning Set Mask: each tile sees its part of every entry's mask."""
    from restoration.common.tiling import normalized_weights, plan_tiles

    x, timesteps = noisy(1, 16, 8)
    hint, left = latent(1, 16, 8), torch.rand(1, 16, 8) + 0.1

    def entries(mask: Tensor) -> list:
        return [
            conditioning(text("good"), mask=mask, mask_strength=1.0)[0],
            conditioning(text("bad"), mask=1.2 - mask, mask_strength=1.0)[0],
        ]

    positive, _ = apply(control, hint, before=(entries(left), plain()[1]))
    (found,) = call_model(tiled(model, 8, 2), x, timesteps, positive)
    tiles = plan_tiles(16, 8, 8, 2)
    expected = torch.zeros_like(x)
    for tile, weight in zip(tiles, normalized_weights(tiles), strict=True):
        before = (entries(tile.crop(left)), plain()[1])
        part, _ = apply(control, cropped(hint, tile), before=before)
        (eps,) = call_model(model, tile.crop(x), timesteps, part)
        tile.crop(expected).add_(eps * weight.float())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_batches_and_cfg_under_tiles(host, model, control) -> None:
    hint = latent(2, 20, 18)
    both = call_model(tiled(model, 8, 3), *noisy(2, 20, 18), *apply(control, hint))
    for row in range(2):
        x, timesteps = noisy(2, 20, 18)
        one = {"samples": hint["samples"][row : row + 1]}
        alone = call_model(
            tiled(model, 8, 3), x[row : row + 1], timesteps[:1], *apply(control, one)
        )
        for batch, single in zip(both, alone, strict=True):
            torch.testing.assert_close(batch[row : row + 1], single, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (18, 20), (40, 36)], ids=str)
def test_a_hint_that_is_not_the_whole_is_refused_under_tiles(host, model, control, size) -> None:
    conds = apply(control, latent(1, *size))
    with pytest.raises(ValueError, match="very picture that is sampled"):
        sample(host, tiled(model, 8, 3), *conds, empty(1, 20, 18))


def test_a_foreign_tilers_own_part_is_used_as_it_is(model, control) -> None:
    x, timesteps = noisy(2, 8, 8)
    part = seeded_input(4, "foreign", 2, 4, 8, 8)

    def foreign(attached):
        """What such a pack does: sets the rows of this call between pre_run and get_control."""
        original = attached.get_control

        def get_control(*args: Any) -> Any:
            attached.cond_hint = part
            return original(*args)

        attached.get_control = get_control

    positive, _ = apply(control)
    foreign(positive[0][1]["control"])
    with Calls(control) as calls:
        call_model(model, x, timesteps, positive)
    assert torch.equal(calls.inputs[0]["hint"], part)
    for inputs in ({"mask": torch.ones(1, 2, 2)}, {"noise_aug": 3}):
        positive, _ = apply(control, **inputs)
        foreign(positive[0][1]["control"])
        with pytest.raises(ValueError, match="Another pack's tiled sampling"):
            call_model(model, x, timesteps, positive)


# --- interrupts, memory, files --------------------------------------------------------------


def test_an_interrupt_leaves_nothing_behind(host, model, control, vae) -> None:
    conds = core_apply(host, plain(), control, picture(), vae)
    expected = sample(host, model, *conds, empty())
    unpatched = sample(host, model, *plain(), empty())
    mm = host.model_management
    patched = tiled(model, 8, 3)
    runs = []

    def interrupt(module, args, inputs) -> None:
        runs.append(1)
        if len(runs) == 3:
            mm.interrupt_current_processing(True)

    handle = control.control_model.register_forward_pre_hook(interrupt, with_kwargs=True)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            sample(host, patched, *conds, empty())
    finally:
        handle.remove()
        mm.interrupt_current_processing(False)
    assert 3 <= len(runs) < 12
    assert torch.equal(sample(host, model, *conds, empty()), expected)
    assert torch.equal(sample(host, model, *plain(), empty()), unpatched)


def test_a_picture_of_another_size_after_an_interrupt(host, model, control, vae) -> None:
    """The hint of the interrupted run must not serve the next one."""
    from restoration.host.view import RowLayout

    conds = core_apply(host, plain(), control, picture(1, 96, 80), vae)
    attached = conds[0][0][1]["control"]
    attached.pre_run(model.model, lambda percent: 1e9 * (1 - percent))
    attached._whole_hint(empty().device, RowLayout.of(empty(), {}, [None]))
    assert attached._hint is not None
    out = sample(host, model, *conds, empty(1, 24, 20))
    fresh = core_apply(host, plain(), control, picture(1, 96, 80), vae)
    assert torch.equal(out, sample(host, model, *fresh, empty(1, 24, 20)))


def test_memory_management_knows_the_network_and_the_residuals(host, model, control) -> None:
    positive, _ = apply(control)
    attached = positive[0][1]["control"]
    assert attached.get_models() == [control.control_model_wrapped]
    assert control.inference_memory_requirements(torch.float32) == 0
    x, timesteps = noisy()
    values = sum(r.numel() for r in residuals(model, control, x, timesteps))
    estimate = attached.inference_memory_requirements(torch.float16)
    assert 2 * 2 * values <= estimate * 1.3 and estimate <= 1.3 * 2 * 2 * values
    chained, _ = apply(control, before=(positive, positive))
    double = chained[0][1]["control"]
    assert double.inference_memory_requirements(torch.float16) == pytest.approx(2 * estimate)
    assert len(double.get_models()) == 2

    sample(host, model, *apply(control), empty(), steps=1)
    loaded = [entry.model for entry in host.model_management.current_loaded_models]
    assert loaded.count(control.control_model_wrapped) == 1


def test_half_precision_weights_stay_small_and_compute_close(host, model, control, weights):
    from restoration.diffbir.load import diffbir_control

    half = diffbir_control({k: v.half() for k, v in weights.items()}, control_config(SMALL))
    x, timesteps = noisy()
    (exact,) = call_model(model, x, timesteps, apply(control)[0])
    (rounded,) = call_model(model, x, timesteps, apply(half)[0])
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)


def test_weights_in_another_precision_are_cast_at_use(host, model, control, weights) -> None:
    """What happens on a device that stores half precision and computes in float32."""
    import comfy.ops

    from restoration.diffbir.attach import DiffBIRControl
    from restoration.diffbir.networks import DiffBIRControlNet

    network = DiffBIRControlNet(control_config(SMALL), torch.float16, "cpu", comfy.ops.manual_cast)
    network.load_state_dict(weights)
    cast = DiffBIRControl(network.eval(), torch.device("cpu"), torch.float32)
    assert {p.dtype for p in network.parameters()} == {torch.float16}
    x, timesteps = noisy()
    (exact,) = call_model(model, x, timesteps, apply(control)[0])
    (found,) = call_model(model, x, timesteps, apply(cast)[0])
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.02)


@pytest.fixture
def folder(host, tmp_path, monkeypatch):
    """models/controlnet of this test."""
    _, extensions = host.folder_paths.folder_names_and_paths["controlnet"]
    entry = ([str(tmp_path)], extensions)
    monkeypatch.setitem(host.folder_paths.folder_names_and_paths, "controlnet", entry)
    host.folder_paths.filename_list_cache.pop("controlnet", None)
    yield tmp_path
    host.folder_paths.filename_list_cache.pop("controlnet", None)


def test_files_load_as_published(folder, weights, model, control) -> None:
    from restoration.diffbir.load import load_diffbir_control

    config = control_config(SMALL)
    save_file(weights, folder / "v2.safetensors")
    torch.save(weights, folder / "v2.pth")
    full = {f"control_model.{key}": value for key, value in weights.items()}
    torch.save({"state_dict": full | {"betas": torch.zeros(9)}}, folder / "general_full_v1.ckpt")
    x, timesteps = noisy()
    (expected,) = call_model(model, x, timesteps, apply(control)[0])
    for name in ("v2.safetensors", "v2.pth", "general_full_v1.ckpt"):
        (found,) = call_model(model, x, timesteps, apply(load_diffbir_control(name, config))[0])
        assert torch.equal(found, expected), name


def test_the_loader_lists_and_refuses_by_name(folder, weights) -> None:
    from restoration.nodes.diffbir import DiffBIRControlLoader

    save_file(weights, folder / "tiny.safetensors")
    options = DiffBIRControlLoader.define_schema().inputs[0].options
    assert options == ["tiny.safetensors"]
    with pytest.raises(CheckpointError, match=r"^tiny.safetensors is not the DiffBIR control"):
        DiffBIRControlLoader.execute("tiny.safetensors")


class NotWeights:
    """A Python object in a pickle."""


def test_files_with_code_or_damage_are_refused(folder) -> None:
    from restoration.diffbir.load import load_diffbir_control

    torch.save({"hyper_parameters": NotWeights()}, folder / "objects.ckpt")
    (folder / "cut.pth").write_bytes((folder / "objects.ckpt").read_bytes()[:200])
    (folder / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    (folder / "diffbir").mkdir()
    (folder / "diffbir" / "v2.pth").write_text("<!doctype html><title>v2.pth at main</title>")
    (folder / "strange.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    for name, words in (
        ("objects.ckpt", "needs more than tensors: it asks for .*NotWeights.*safetensors version"),
        ("cut.pth", "is cut off after 200 bytes.*download it again"),
        ("cut.safetensors", "is cut off after 10 bytes.*download it again"),
        (
            str(Path("diffbir") / "v2.pth"),
            "v2.pth holds no weights: it is a web page.*download link",
        ),
        ("strange.safetensors", "is not the DiffBIR control"),
    ):
        with pytest.raises(CheckpointError, match=f"^{re.escape(name)}:? {words}"):
            load_diffbir_control(name)


def test_a_replaced_file_loads_again(folder) -> None:
    from restoration.nodes.diffbir import DiffBIRControlLoader

    path = folder / "v2.pth"
    path.write_bytes(b"1")
    first = DiffBIRControlLoader.fingerprint_inputs("v2.pth")
    assert DiffBIRControlLoader.fingerprint_inputs("v2.pth") == first
    path.write_bytes(b"22")
    assert DiffBIRControlLoader.fingerprint_inputs("v2.pth") != first
