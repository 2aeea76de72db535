"""SeeSR's patch in the real host: exactness, masks, ranges, batches, tiles, other patches."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.registry import samplers
from restoration.tests.host.networks import (
    call_model,
    conditioning,
    core_controlnet,
    sample,
    seeded_input,
)
from restoration.tests.host.seesr_networks import (
    TEXT,
    base_model,
    config,
    networks,
    reference,
    tag_embeds,
    tiny_tagger,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 12, 16
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


@pytest.fixture(scope="module")
def model(host) -> Any:
    return base_model()


@pytest.fixture(scope="module")
def seesr(host) -> Any:
    return networks()


def text(name: str = "good") -> Tensor:
    return seeded_input(3, name, 1, 7, TEXT)


def pair() -> tuple[list, list]:
    return conditioning(text()), conditioning(text("bad"))


def picture(rows: int = 1, height: int = HEIGHT, width: int = WIDTH, name: str = "p") -> Tensor:
    return torch.sigmoid(seeded_input(9, name, rows, 8 * height, 8 * width, 3))


def noisy(rows: int = 1, height: int = HEIGHT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    return seeded_input(5, "x", rows, 4, height, width), torch.full((rows,), 500)


def empty(rows: int = 1, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    return torch.zeros(rows, 4, height, width)


def applied(model: Any, seesr: Any, image: Tensor | None = None, **inputs: Any) -> Any:
    """MODEL through the node."""
    from restoration.nodes.seesr import SeeSRControlApply

    inputs = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **inputs}
    embeds = inputs.pop("embeds", None) or tag_embeds()
    image = picture() if image is None else image
    return SeeSRControlApply.execute(model, seesr, image, embeds, **inputs).result[0]


def by_hand(model: Any, seesr: Any, call: tuple, image: Tensor, embeds: Tensor, **options: Any):
    """Every image by itself."""
    x, timesteps = call
    rows = [slice(i, i + 1) for i in range(len(x))]
    return torch.cat(
        [
            reference(
                model,
                seesr,
                x[r],
                timesteps[r],
                text(),
                image[r].movedim(-1, 1),
                embeds[r],
                **options,
            )
            for r in rows
        ]
    )


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (11, 13)], ids=str)
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_one_call_equals_the_blocks_written_out(model, seesr, size, strength) -> None:
    call, image, embeds = noisy(2, *size), picture(2, *size), tag_embeds(2)
    patched = applied(model, seesr, image, embeds=embeds, strength=strength)
    (found,) = call_model(patched, *call, conditioning(text()))
    expected = by_hand(model, seesr, call, image, embeds.embeds, strength=strength)
    torch.testing.assert_close(found, expected, **CLOSE)
    (plain,) = call_model(model, *call, conditioning(text()))
    assert (found - plain).abs().mean() > 0.05


def test_fidelity_turns_the_strength(model, seesr) -> None:
    def picture_of(**inputs: float) -> torch.Tensor:
        return call_model(applied(model, seesr, **inputs), *noisy(), conditioning(text()))[0]

    for fidelity, strength in ((0.5, 0.8), (0.0, 0.4), (0.75, 1.0), (1.0, 1.2)):
        found = picture_of(strength=0.8, fidelity=fidelity)
        assert torch.equal(found, picture_of(strength=strength)), fidelity
    assert not torch.equal(picture_of(strength=0.8), picture_of(strength=0.8, fidelity=0.6))


def test_a_gray_mask_scales_residuals_and_what_rca_changes(model, seesr) -> None:
    mask = torch.sigmoid(seeded_input(8, "mask", 1, HEIGHT, WIDTH))
    (found,) = call_model(applied(model, seesr, mask=mask), *noisy(), conditioning(text()))
    expected = by_hand(model, seesr, noisy(), picture(), tag_embeds().embeds, mask=mask[None])
    torch.testing.assert_close(found, expected, **CLOSE)


def test_strength_0_and_an_empty_range_are_the_plain_model_bit_for_bit(host, model, seesr) -> None:
    expected = sample(host, model, *pair(), empty())
    for inputs in (
        {"strength": 0.0},
        {"end_percent": 0.0},
        {"start_percent": 1.0},
        {"start_percent": 0.7, "end_percent": 0.3},
    ):
        found = sample(host, applied(model, seesr, **inputs), *pair(), empty())
        assert torch.equal(found, expected), inputs
    assert not torch.equal(sample(host, applied(model, seesr), *pair(), empty()), expected)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (8 * HEIGHT, 8 * WIDTH)], ids=str)
def test_white_mask_is_no_mask_and_black_mask_is_the_plain_model(host, model, seesr, size) -> None:
    for mask, other in (
        (torch.ones(1, *size), applied(model, seesr)),
        (torch.zeros(1, *size), model),
    ):
        found = sample(host, applied(model, seesr, mask=mask), *pair(), empty())
        assert torch.equal(found, sample(host, other, *pair(), empty()))


def test_both_guidance_halves_see_the_same_embeddings(model, seesr) -> None:
    """Positive and negative differ in their text alone."""
    x, timesteps = noisy()
    embeds = tag_embeds().embeds
    found = call_model(applied(model, seesr), x, timesteps, *pair())
    for out, name in zip(found, ("good", "bad"), strict=True):
        pixels = picture().movedim(-1, 1)
        expected = reference(model, seesr, x, timesteps, text(name), pixels, embeds)
        torch.testing.assert_close(out, expected, **CLOSE)


@pytest.mark.parametrize("rows", [1, 3])
def test_embeddings_of_a_batch_go_to_their_own_image(model, seesr, rows) -> None:
    """Three images; one row of embeddings serves all, three go one each."""
    call, image, embeds = noisy(3), picture(3), tag_embeds(rows)
    patched = applied(model, seesr, image, embeds=embeds)
    found = call_model(patched, *call, *pair())
    expected = by_hand(model, seesr, call, image, embeds.embeds.repeat(3 // rows, 1, 1))
    torch.testing.assert_close(found[0], expected, **CLOSE)


def test_embeddings_that_cannot_be_shared_out_are_refused(model, seesr) -> None:
    patched = applied(model, seesr, picture(3), embeds=tag_embeds(2))
    with pytest.raises(ValueError, match="`tag_embeds` has 2 images, but there are 3"):
        call_model(patched, *noisy(3), conditioning(text()))


def test_cfg_1_runs_one_half(host, model, seesr) -> None:
    rows: list[int] = []
    handle = seesr.control.model.register_forward_pre_hook(
        lambda _, args: rows.append(len(args[0]))
    )
    try:
        patched = applied(model, seesr)
        guided = sample(host, patched, *pair(), empty(), cfg=4.0)
        alone = sample(host, patched, *pair(), empty(), cfg=1.0)
    finally:
        handle.remove()
    assert rows == [2, 2, 1, 1]
    assert not torch.equal(guided, alone)


def test_clones_reruns_and_the_model_itself(host, model, seesr) -> None:
    plain = sample(host, model, *pair(), empty())
    patched = applied(model, seesr)
    expected = sample(host, patched, *pair(), empty())
    for again in (patched, patched.clone().clone(), applied(model, seesr)):
        assert torch.equal(sample(host, again, *pair(), empty()), expected)
    assert torch.equal(sample(host, model, *pair(), empty()), plain)
    assert not torch.equal(plain, expected)


def test_an_interrupt_leaves_no_hook(host, model, seesr) -> None:
    mm = host.model_management
    plain = sample(host, model, *pair(), empty())
    patched = applied(model, seesr)
    expected = sample(host, patched, *pair(), empty())
    stop = seesr.control.model.encoder.middle_block[1]

    def interrupt(*_: Any) -> None:
        mm.interrupt_current_processing(True)
        mm.throw_exception_if_processing_interrupted()

    handle = stop.register_forward_hook(interrupt)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            sample(host, patched, *pair(), empty())
    finally:
        handle.remove()
        mm.interrupt_current_processing(False)
    for network in (model.model.diffusion_model, seesr.control.model):
        assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(sample(host, model, *pair(), empty()), plain)
    assert torch.equal(sample(host, patched, *pair(), empty()), expected)


def test_chains_with_a_core_controlnet(host, model, seesr) -> None:
    other = core_controlnet(config().unet_config(), seed=21)
    image = picture(name="other")
    (positive,) = host.nodes.ControlNetApplyAdvanced().apply_controlnet(
        *pair(), other, image, 0.8, 0.0, 1.0
    )[:1]
    x, timesteps = noisy()
    (found,) = call_model(applied(model, seesr), x, timesteps, positive)
    with torch.no_grad():
        theirs = other.control_model(
            x=x, hint=image.movedim(-1, 1), timesteps=timesteps.float(), context=text()
        )
    scaled = {kind: [0.8 * residual for residual in each] for kind, each in theirs.items()}
    expected = by_hand(
        model, seesr, (x, timesteps), picture(), tag_embeds().embeds, others=[scaled]
    )
    torch.testing.assert_close(found, expected, **CLOSE)


def test_a_lora_on_the_base_acts_with_seesr_and_leaves_rca_alone(host, model, seesr) -> None:
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    change = 0.3 * seeded_input(1, "lora", *model.model.state_dict()[key].shape)
    tuned = base_model()
    tuned.model.state_dict()[key].add_(change)
    lora = model.clone()
    lora.add_patches({key: ("diff", (change,))}, 1.0)
    before = applied(lora, seesr)
    after = applied(model, seesr)
    after.add_patches({key: ("diff", (change,))}, 1.0)
    call = (*noisy(), conditioning(text()))
    (expected,) = call_model(applied(tuned, seesr), *call)
    (unchanged,) = call_model(applied(model, seesr), *call)
    assert not torch.allclose(expected, unchanged, atol=1e-4)
    for patched in (before, after):
        assert not any("rca" in name for name in patched.patches)
        host.model_management.unload_all_models()
        host.model_management.load_models_gpu([patched])
        (found,) = call_model(patched, *call)
        torch.testing.assert_close(found, expected, **CLOSE)
    host.model_management.unload_all_models()


def test_attention_patches_of_other_nodes_do_not_fire_inside_rca(model, seesr) -> None:
    calls: list[Any] = []

    def attn2(n: Tensor, context: Tensor, value: Tensor, extra: dict) -> tuple:
        calls.append((n.shape[-1], context.shape[-1]))
        return n, context, value

    def count(patched: Any) -> list[Any]:
        calls.clear()
        patched.set_model_attn2_patch(attn2)
        call_model(patched, *noisy(), conditioning(text()))
        return list(calls)

    assert count(applied(model, seesr)) == count(model.clone())


def tiled(patched: Any, batch: int = 1) -> Any:
    """16x16 cells in four tiles that do not overlap."""
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    return apply_tiles(patched, TilePlan(8, 0, batch, "uniform"))


def test_tiles_share_the_embeddings_of_the_whole(model, seesr) -> None:
    """As the authors do."""
    call, image = noisy(1, 16, 16), picture(1, 16, 16)
    (found,) = call_model(tiled(applied(model, seesr, image)), *call, conditioning(text()))
    part = (call[0][..., 8:, :8], call[1])
    expected = by_hand(model, seesr, part, image[:, 64:, :64], tag_embeds().embeds)
    torch.testing.assert_close(found[..., 8:, :8], expected, **CLOSE)


@pytest.mark.parametrize("batch", [1, 4])
def test_with_the_tagger_every_tile_has_its_own_embeddings(model, seesr, batch) -> None:
    from restoration.tagger.run import run_tagger

    dape, call = tiny_tagger(), noisy(2, 16, 16)
    # Not a multiple of 8: the border goes before the picture is cut into tiles.
    image = picture(2, 17, 17)[:, : 8 * 16 + 5, : 8 * 16 + 3]
    cut = image[:, 2 : 2 + 128, 1 : 1 + 128]
    patched = applied(model, seesr, image, embeds=tag_embeds(2), dape_model=dape)
    patched = tiled(patched, batch)
    (found,) = call_model(patched, *call, conditioning(text()))
    for y in (0, 8):
        for x in (0, 8):
            part = cut[:, 8 * y : 8 * y + 64, 8 * x : 8 * x + 64]
            _, own = run_tagger(dape, part.movedim(-1, 1), lambda *_: "", False)
            rows = (call[0][..., y : y + 8, x : x + 8], call[1])
            expected = by_hand(model, seesr, rows, part, own.embeds)
            torch.testing.assert_close(found[..., y : y + 8, x : x + 8], expected, **CLOSE)


def test_a_tile_is_tagged_once_a_run_and_nothing_is_without_tiles(host, model, seesr) -> None:
    dape = tiny_tagger()
    seen: list[tuple[int, ...]] = []
    handle = dape.network.visual_encoder.register_forward_pre_hook(
        lambda _, args: seen.append(tuple(args[0].shape))
    )
    patched = applied(model, seesr, picture(1, 16, 16), dape_model=dape)
    for count in (1, 2):
        sample(host, tiled(patched), *pair(), empty(1, 16, 16), steps=3)
        assert seen == [(1, 3, 24, 24)] * 4 * count, "a run keeps what it saw, and forgets it after"
    sample(host, patched, *pair(), empty(1, 16, 16))
    assert len(seen) == 8
    handle.remove()
    patcher = {each for each in patched.get_additional_models() if each.model is dape.network}
    assert patcher, "the tagger is not under memory management"


def test_wrong_inputs_get_a_sentence(host, model, seesr) -> None:
    from restoration.tagger.run import TagEmbeds
    from restoration.tests.host.networks import SMALL, ldm_unet_config, unet_model

    with pytest.raises(ValueError, match=r"`seesr_model` is a dict, not .* Connect Load SeeSR"):
        applied(model, {})
    with pytest.raises(ValueError, match=r"`tag_embeds` is a list.* Connect tag_embeds of Tag"):
        applied(model, seesr, embeds=[1])
    with pytest.raises(ValueError, match=r"`dape_model` is a TagEmbeds.* Connect Load DAPE"):
        applied(model, seesr, dape_model=TagEmbeds(torch.zeros(1, 5, 512)))
    other = unet_model(ldm_unet_config({**SMALL, "context_dim": 24}))
    with pytest.raises(ValueError, match=r"text features are 24 wide; .*\(16 wide\)"):
        applied(other, seesr)
    small = applied(model, seesr, picture(height=16))
    with pytest.raises(ValueError, match=r"latent of 16x16 .* works on 16x12\. .*128x96 pixels"):
        call_model(small, *noisy(), conditioning(text()))


def turbo_warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if "SD-Turbo" in r.getMessage()]


def test_guidance_on_a_turbo_base_warns_once_a_run(host, model, seesr, caplog) -> None:
    """Few steps with guidance on a base that is not SeeSR's own."""
    caplog.set_level(logging.WARNING)
    foreign = base_model(seed=7)
    sample(host, applied(foreign, seesr), *pair(), empty(), steps=2, cfg=5.5)
    (message,) = turbo_warnings(caplog)
    assert "2 steps at cfg 5.5" in message and "set cfg to 1" in message
    caplog.clear()
    for base, steps, cfg in ((foreign, 2, 1.0), (foreign, 9, 5.5), (model, 2, 5.5)):
        sample(host, applied(base, seesr), *pair(), empty(), steps=steps, cfg=cfg)
    sample(host, foreign, *pair(), empty(), steps=2, cfg=5.5)
    assert not turbo_warnings(caplog)


def test_the_warning_also_comes_with_the_custom_sampler(host, seesr, caplog) -> None:
    from comfy.samplers import CFGGuider

    from restoration.host.sampling import restoration_sampler
    from restoration.nodes.sampling import RestorationSigmas

    patched = applied(base_model(seed=7), seesr)
    (sigmas,) = RestorationSigmas.execute(patched, "seesr_turbo", 2, 1.0).result
    guider = CFGGuider(patched)
    guider.set_conds(*pair())
    for cfg, expected in ((5.5, 1), (1.0, 0)):
        caplog.clear()
        guider.set_cfg(cfg)
        with torch.inference_mode():
            guider.sample(
                noisy()[0], empty(), restoration_sampler(samplers()["seesr_ddpm"]), sigmas
            )
        assert len(turbo_warnings(caplog)) == expected


def test_pasd_and_seesr_on_one_model(host, seesr) -> None:
    """Through one mechanism, in both orders; neither hides the other."""
    from restoration.host.branch import BranchPatch
    from restoration.pasd.attach import apply_pasd
    from restoration.tests.host.pasd_networks import networks as pasd_networks
    from restoration.tests.host.pasd_networks import sd15

    shared = config().unet_config()
    sizes = sd15(use_linear=True, num_heads=-1, num_head_channels=16)
    assert {k: v for k, v in sizes.unet_config().items() if k in shared and k != "image_size"}
    model, call = base_model(), (*noisy(), conditioning(text()))
    for variant in ("pasd", "pasd_light"):
        pasd = pasd_networks(sizes, variant)

        def with_pasd(model: Any, pasd: Any = pasd) -> Any:
            return apply_pasd(model, pasd, picture(name="q"), 1.0, 0.0, 1.0)

        (both,) = call_model(with_pasd(applied(model, seesr)), *call)
        (other_order,) = call_model(applied(with_pasd(model), seesr), *call)
        assert both.isfinite().all() and other_order.isfinite().all()
        for one in (with_pasd(model), applied(model, seesr), model):
            assert not torch.allclose(both, call_model(one, *call)[0], atol=1e-3)
        patched = with_pasd(applied(model, seesr))
        sample(host, patched, *pair(), empty())
        forgetting = [each for keyed in patched.callbacks["on_cleanup"].values() for each in keyed]
        assert [type(each.__self__) for each in forgetting] == [BranchPatch] * 2


def test_two_seesr_patches_on_one_model(host, model, seesr) -> None:
    first = applied(model, seesr)
    both = applied(first, seesr, picture(name="q"), embeds=tag_embeds(name="other"))
    call = (*noisy(), conditioning(text()))
    (found,) = call_model(both, *call)
    assert not torch.allclose(found, call_model(first, *call)[0], atol=1e-3)
    assert sample(host, both, *pair(), empty()).isfinite().all()


def test_half_precision_computes_close(host, model) -> None:
    """The networks take the precision of the UNet at every call."""
    from restoration.seesr.load import seesr_model
    from restoration.tests.host.seesr_networks import published_files

    halves = [{k: v.half() for k, v in weights.items()} for weights in published_files()]
    cast, _ = seesr_model(*halves, config=config())
    call = (*noisy(), conditioning(text()))
    (exact,) = call_model(applied(model, networks()), *call)
    (found,) = call_model(applied(model, cast), *call)
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0.03)


@pytest.fixture
def pytorch_attention(host, monkeypatch):
    """The host's CPU default breaks a compiled graph by itself (host.md 3.5)."""
    import comfy.ldm.modules.attention as attention
    from comfy.ldm.modules.attention import attention_pytorch

    for name in ("optimized_attention", "optimized_attention_masked"):
        monkeypatch.setattr(attention, name, attention_pytorch)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(model: Any) -> Any:
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = model.clone()
    set_torch_compile_wrapper(model=model, backend="eager")
    return model


@pytest.mark.slow  # a minute
def test_compile_plain_patched_plain(host, seesr, pytorch_attention) -> None:
    """Plain and patched runs in turn agree with uncompiled ones, also with other networks."""
    model = base_model()
    patched = applied(model, seesr)
    other = applied(model, networks(seed=52), end_percent=0.5)
    runs = [model, patched, model, other, patched, model]
    expected = [sample(host, each, *pair(), empty()) for each in runs]
    found = [sample(host, compiled(each), *pair(), empty()) for each in runs]
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5, msg=f"run {number}")
    assert (expected[0] - expected[1]).abs().max() > 0.1
