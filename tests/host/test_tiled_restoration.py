"""Tiled Restoration in the real host: every tile sees its part of everything, in any batch."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.common.tiling import Tile, Weighting, normalized_weights, plan_tiles
from restoration.tests.host.networks import (
    SMALL,
    call_model,
    conditioning,
    core_controlnet,
    ldm_unet_config,
    sample,
    seeded_input,
    seeded_weights,
    unet_model,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH, SIDE, OVERLAP = 20, 18, 8, 3
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
EXTRA = pytest.mark.slow  # one by one, and in another number than what is there: as two by two
BATCHES = [pytest.param(1, marks=EXTRA), 2, pytest.param(4, marks=EXTRA), 100]


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


@pytest.fixture(scope="module")
def model(host) -> Any:
    return unet_model(ldm_unet_config(SMALL))


def text(name: str = "good", rows: int = 1) -> Tensor:
    return seeded_input(3, f"text {name}", rows, 7, SMALL["context_dim"])


def noisy(rows: int = 1, height: int = HEIGHT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    return seeded_input(5, "x", rows, 4, height, width), torch.full((rows,), 500)


def picture(rows: int = 1, height: int = 8 * HEIGHT, width: int = 8 * WIDTH) -> Tensor:
    return seeded_input(6, "picture", rows, height, width, 3).sigmoid()


def tiled(model: Any, batch: int = 1, weighting: Weighting = "gaussian", **plan: int) -> Any:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    plan = {"tile_size": SIDE, "overlap": OVERLAP, **plan}
    return apply_tiles(model, TilePlan(**plan, batch=batch, weighting=weighting))


def blended(call: Any, x: Tensor) -> Tensor:
    """By hand: call(tile) gives the prediction of one tile alone."""
    tiles = plan_tiles(*x.shape[-2:], SIDE, OVERLAP)
    expected = torch.zeros_like(x)
    for tile, weight in zip(tiles, normalized_weights(tiles), strict=True):
        tile.crop(expected).add_(call(tile) * weight.float())
    return expected


def controlled(cond: list, control: Any, image: Tensor, strength: float = 0.8) -> list:
    """What core's Apply ControlNet does to one CONDITIONING."""
    placed = control.copy().set_cond_hint(image.movedim(-1, 1), strength, (0.0, 1.0))
    placed.set_previous_controlnet(cond[0][1].get("control"))
    options = {**cond[0][1], "control": placed, "control_apply_to_uncond": False}
    return [[cond[0][0], options]]


def of_image(tile: Tile, image: Tensor) -> Tensor:
    return tile.scaled(8).crop(image.movedim(-1, 1)).movedim(1, -1)


@pytest.mark.parametrize("batch", BATCHES)
def test_core_controlnets_see_their_tiles(host, model, batch) -> None:
    """Two of them, one with a picture for each latent and one with a picture of another size."""
    from comfy.utils import common_upscale

    first, second = (core_controlnet(ldm_unet_config(SMALL), seed) for seed in (21, 22))
    x, timesteps = noisy(2)
    small = picture(1, 100, 90)
    large = common_upscale(small.movedim(-1, 1), 8 * WIDTH, 8 * HEIGHT, "nearest-exact", "center")

    def conds(both: Tensor, one: Tensor) -> list:
        return controlled(controlled(conditioning(text()), first, both), second, one, 0.5)

    positive = conds(picture(2), small)
    held = [positive[0][1]["control"], positive[0][1]["control"].previous_controlnet]
    hints = [control.cond_hint_original for control in held]
    (found,) = call_model(tiled(model, batch), x, timesteps, positive)

    def alone(tile: Tile) -> Tensor:
        parts = of_image(tile, picture(2)), of_image(tile, large.movedim(1, -1))
        return call_model(model, tile.crop(x), timesteps, conds(*parts))[0]

    torch.testing.assert_close(found, blended(alone, x), **CLOSE)
    for control, hint in zip(held, hints, strict=True):
        assert control.cond_hint_original is hint and control.cond_hint is None


@pytest.mark.parametrize("batch", BATCHES)
def test_an_adapter_sees_its_tiles_also_where_the_negative_prompt_rests(host, batch) -> None:
    import comfy.controlnet
    from comfy.t2i_adapter.adapter import Adapter_light

    model = unet_model(ldm_unet_config({**SMALL, "num_res_blocks": 2}))
    network = Adapter_light([32, 64], 1, 192).eval()
    network.load_state_dict(seeded_weights(network, 4))
    adapter = comfy.controlnet.T2IAdapter(network, 3, 8, "nearest-exact", torch.device("cpu"))
    x, timesteps = noisy()
    positive = controlled(conditioning(text()), adapter, picture())

    def alone(tile: Tile, with_adapter: bool = True) -> Tensor:
        part = conditioning(text())
        if with_adapter:
            part = controlled(part, adapter, of_image(tile, picture()))
        return call_model(model, tile.crop(x), timesteps, part)[0]

    (found,) = call_model(tiled(model, batch), x, timesteps, positive)
    expected = blended(alone, x)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert (expected - blended(lambda tile: alone(tile, False), x)).abs().max() > 0.01
    # Both prompts in one call, then one alone: the adapter's rows change between calls.
    negative = [[text("bad"), {**positive[0][1], "start_percent": 0.5}]]
    start = torch.zeros(1, 4, HEIGHT, WIDTH)
    once = sample(host, tiled(model), positive, negative, start, steps=3)
    found = sample(host, tiled(model, batch), positive, negative, start, steps=3)
    torch.testing.assert_close(found, once, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batch", BATCHES)
def test_inpainting_channels_are_cut(host, batch) -> None:
    inpainting = unet_model({**ldm_unet_config(SMALL), "in_channels": 9, "out_channels": 4})
    x, timesteps = noisy(2)
    kept = seeded_input(7, "kept", 1, 4, HEIGHT, WIDTH)
    mask = (seeded_input(7, "mask", 1, 1, HEIGHT, WIDTH) > 0).float()

    def conds(kept: Tensor, mask: Tensor) -> list:
        """As core's InpaintModelConditioning."""
        return conditioning(text(), concat_latent_image=kept, concat_mask=mask)

    (found,) = call_model(tiled(inpainting, batch), x, timesteps, conds(kept, mask))

    def alone(tile: Tile) -> Tensor:
        part = conds(tile.crop(kept), tile.crop(mask))
        return call_model(inpainting, tile.crop(x), timesteps, part)[0]

    torch.testing.assert_close(found, blended(alone, x), **CLOSE)


class Boxes(torch.nn.Module):
    """Stands for a GLIGEN network: its patch moves the features by where the boxes lie."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], list]] = []

    def set_position(self, shape: Any, boxes: list, device: Any) -> Any:
        self.seen.append((tuple(shape), [box[1:] for box in boxes]))
        height, width = shape[-2:]
        move = sum(0.1 * (y / height + 2 * x / width + h * w / 64) for _, h, w, y, x in boxes)
        return lambda h, options: h + move


@pytest.mark.parametrize("batch", BATCHES)
def test_boxes_are_cut_to_the_tile(host, model, batch) -> None:
    import comfy.model_patcher

    x, timesteps = noisy()
    network, cpu = Boxes(), torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(network, load_device=cpu, offload_device=cpu)
    boxes = [(text()[:, 0], 9, 6, 2, 4), (text()[:, 1], 4, 4, 15, 12)]

    def conds(inside: list) -> list:
        return conditioning(text(), gligen=("position", patcher, inside))

    (found,) = call_model(tiled(model, batch), x, timesteps, conds(boxes))
    assert {len(inside) for _, inside in network.seen} >= {0, 1}

    def alone(tile: Tile) -> Tensor:
        inside = []
        for name, h, w, y, column in boxes:
            rows = range(max(y, tile.y), min(y + h, tile.y + SIDE))
            columns = range(max(column, tile.x), min(column + w, tile.x + SIDE))
            if rows and columns:
                box = (name, len(rows), len(columns), rows[0] - tile.y, columns[0] - tile.x)
                inside.append(box)
        return call_model(model, tile.crop(x), timesteps, conds(inside))[0]

    torch.testing.assert_close(found, blended(alone, x), **CLOSE)


@pytest.mark.parametrize("with_area", [True, False])
@pytest.mark.parametrize("batch", BATCHES[1:])
def test_areas_masks_and_text_rows_belong_to_the_same_pictures_in_any_batch(
    host, model, batch, with_area
) -> None:
    """Three pictures; texts for two (the host repeats them 0, 1, 0), a mask each, and beside it
    an area (which parts tiles into several calls) or another mask (which does not)."""
    x, timesteps = noisy(3)
    mask = torch.rand(3, HEIGHT, WIDTH) + 0.1
    beside = {"area": (9, 11, 2, 3), "strength": 0.7} if with_area else {"mask": 1.2 - mask}
    entries = [
        conditioning(text("good", 2), mask=mask, mask_strength=1.0)[0],
        conditioning(text("bad"), **beside)[0],
    ]
    (expected,) = call_model(tiled(model), x, timesteps, entries)
    (found,) = call_model(tiled(model, batch), x, timesteps, entries)
    torch.testing.assert_close(found, expected, **CLOSE)
    (plain,) = call_model(tiled(model), x, timesteps, conditioning(text("good", 2)))
    assert (plain - expected).abs().max() > 0.05, "the entries had no effect"


def everything(host: Any, model: Any, rows: int = 2) -> tuple[Any, list, list]:
    """MODEL, positive, negative with all that travels: DiffBIR's control with a mask, a core
    ControlNet, an area."""
    from restoration.diffbir.attach import apply_latent_control
    from restoration.diffbir.load import diffbir_control
    from restoration.tests.golden.runners_diffbir import control_config

    config = control_config(SMALL)
    from restoration.diffbir.keys import layout
    from restoration.tests.golden import seeded

    weights = {k: torch.from_numpy(v) for k, v in seeded.state_dict(11, layout(config)).items()}
    hint = {"samples": seeded_input(3, "hint", 1, 4, HEIGHT, WIDTH) / 0.18215}
    positive, _ = apply_latent_control(
        conditioning(text()),
        conditioning(text("bad")),
        diffbir_control(weights, config),
        hint,
        0.9,
        0.0,
        1.0,
        torch.rand(1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)),
    )
    other = core_controlnet(ldm_unet_config(SMALL), 21)
    positive = controlled(positive, other, picture(rows))
    # One chain for both prompts: the host then runs them in one call.
    negative = [[text("bad"), dict(positive[0][1])]]
    area = conditioning(text("bad"), area=(12, 12, 4, 3), strength=0.5)
    return model, positive + area, negative


@pytest.mark.parametrize(("batch", "with_area"), [(2, True), (100, False)])
def test_a_whole_run_does_not_depend_on_the_batch(host, model, batch, with_area) -> None:
    """With an area most tiles go alone: it lies differently in each."""
    model, positive, negative = everything(host, model)
    if not with_area:
        positive = positive[:1]
    start = torch.zeros(2, 4, HEIGHT, WIDTH)
    expected = sample(host, tiled(model), positive, negative, start)
    found = sample(host, tiled(model, batch), positive, negative, start)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_the_place_in_the_batch_does_not_matter(host, model) -> None:
    x, timesteps = noisy(3)
    (together,) = call_model(tiled(model, 2), x, timesteps, conditioning(text()))
    for row in range(3):
        one = x[row : row + 1]
        (alone,) = call_model(tiled(model, 2), one, timesteps[:1], conditioning(text()))
        torch.testing.assert_close(together[row : row + 1], alone, **CLOSE)


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "ddpm"])
def test_the_noise_is_one_field_and_a_noise_mask_is_the_whole_pictures(
    host, model, sampler
) -> None:
    """With a network that looks at each cell alone, tiles cannot be told from the whole: not in
    the start, not in the noise of the steps, not at a noise mask's border."""
    import comfy.sample
    from comfy.patcher_extension import WrappersMP

    def pointwise(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return 0.3 * x.tanh()

    cells = model.clone()
    cells.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "pointwise", pointwise)
    start = seeded_input(9, "start", 2, 4, HEIGHT, WIDTH)
    mask = (seeded_input(9, "mask", 1, HEIGHT, WIDTH) > 0).float()

    def run(patched: Any, noise_mask: Tensor | None) -> Tensor:
        noise = comfy.sample.prepare_noise(start, 4)
        settings = (3, 2.0, sampler, "normal", conditioning(text()), conditioning(text("bad")))
        with torch.inference_mode():
            return comfy.sample.sample(
                patched, noise, *settings, start, noise_mask=noise_mask, seed=4
            )

    for noise_mask in (None, mask):
        whole = run(cells, noise_mask)
        for weighting in ("gaussian", "uniform"):
            found = run(tiled(cells, 3, weighting), noise_mask)
            torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)


def largest_steps(weighting: Weighting) -> tuple[float, float]:
    """(across tile borders, elsewhere) in what a blend makes of a flat gradient, of which every
    tile has its own opinion: the worst that a network does to a smooth sky."""
    side, overlap, height, width = 32, 16, 96, 80
    gradient = torch.linspace(-1, 1, height)[:, None] + torch.linspace(0, 1, width)
    opinions = iter([0.05, -0.05] * 50)

    def calls(_model: Any, conds: Any, x: Tensor, timestep: Tensor, options: Any) -> list[Tensor]:
        return [x + next(opinions)]

    from comfy.patcher_extension import WrapperExecutor

    from restoration.host.tiled_sampling import TiledSampling, TilePlan

    tiling = TiledSampling(TilePlan(side, overlap, weighting=weighting))
    executor = WrapperExecutor.new_executor(calls, [tiling.calc_cond_batch])
    (out,) = executor.execute(None, [[]], gradient[None, None], torch.ones(1), {})
    error = (out - gradient)[0, 0]
    borders = torch.zeros(height, width, dtype=torch.bool)
    for tile in plan_tiles(height, width, side, overlap):
        for edge in (tile.y, tile.y + side):
            borders[edge : edge + 1] = edge < height
        for edge in (tile.x, tile.x + side):
            borders[:, edge : edge + 1] |= edge < width
    down, right = error.diff(dim=0).abs(), error.diff(dim=1).abs()
    at = torch.cat([down[borders[1:, :]], right[borders[:, 1:]]])
    elsewhere = torch.cat([down[~borders[1:, :]], right[~borders[:, 1:]]])
    return float(at.max()), float(elsewhere.max())


def test_no_seams_on_flat_gradients(host) -> None:
    for weighting in ("gaussian", "hann", "authors"):
        at_borders, inside = largest_steps(weighting)
        assert at_borders <= inside, weighting
    at_borders, inside = largest_steps("uniform")
    assert at_borders > inside, "this test would see a seam"


def test_one_tile_is_the_untiled_run_bit_for_bit(host, model) -> None:
    start = torch.zeros(2, 4, HEIGHT, WIDTH)
    model, *conds = everything(host, model)
    whole = tiled(model, 4, tile_size=HEIGHT, overlap=4)
    assert torch.equal(sample(host, whole, *conds, start), sample(host, model, *conds, start))


def test_the_last_node_wins_and_clones_keep_theirs(host, model) -> None:
    x, timesteps = noisy()
    cond = conditioning(text())
    once = tiled(model, tile_size=12)
    (plain,) = call_model(model, x, timesteps, cond)
    (expected,) = call_model(once, x, timesteps, cond)
    (of_both,) = call_model(tiled(once), x, timesteps, cond)
    assert torch.equal(of_both, call_model(tiled(model), x, timesteps, cond)[0])
    assert torch.equal(call_model(once, x, timesteps, cond)[0], expected)
    assert torch.equal(call_model(model, x, timesteps, cond)[0], plain)
    assert not torch.equal(expected, plain) and not torch.equal(of_both, expected)


def out_of_memory(rows: int, cells: int) -> Any:
    """A DIFFUSION_MODEL wrapper that fails as a full card does above this size of a call."""
    import comfy.model_management as mm

    def limited(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.shape[0] > rows or x.shape[-1] * x.shape[-2] > cells:
            raise mm.OOM_EXCEPTION(f"no room for {tuple(x.shape)}")
        return executor(x, *args, **kwargs)

    return limited


def limited(model: Any, rows: int, cells: int) -> Any:
    from comfy.patcher_extension import WrappersMP

    patched = model.clone()
    wrapper = out_of_memory(rows, cells)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "limit", wrapper)
    return patched


def test_out_of_memory_first_lowers_the_batch_then_the_tile(host, model, caplog) -> None:
    x, timesteps = noisy(1, 96, 24)
    positive = controlled(
        conditioning(text()), core_controlnet(ldm_unet_config(SMALL), 21), picture(1, 768, 192)
    )
    big = {"tile_size": 64, "overlap": 16}
    small_card = limited(model, 1, 64 * 24)
    with caplog.at_level(logging.WARNING):
        (found,) = call_model(tiled(small_card, 2, **big), x, timesteps, positive)
    (expected,) = call_model(tiled(model, **big), x, timesteps, positive)
    assert torch.equal(found, expected)
    (said,) = (record.message for record in caplog.records)
    assert "out of memory; going on with 192x768 pixels in 2 tiles of 192x512 (1 x 2)" in said
    assert said.endswith("overlap 128, 1 at once.")

    tiny_card = limited(model, 1, 32 * 24)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        (found,) = call_model(tiled(tiny_card, 2, **big), x, timesteps, positive)
    (expected,) = call_model(tiled(model, tile_size=32, overlap=16), x, timesteps, positive)
    assert torch.equal(found, expected)
    assert ["tiles of 192x512" in r.message for r in caplog.records] == [True, False]
    assert "5 tiles of 192x256" in caplog.text


def test_out_of_memory_in_a_control_branch_counts_too(host, model, caplog) -> None:
    x, timesteps = noisy(1, 96, 24)
    positive = controlled(
        conditioning(text()), core_controlnet(ldm_unet_config(SMALL), 21), picture(1, 768, 192)
    )
    left = [True]

    def fail(*_: Any) -> None:
        if left and left.pop():
            raise host.model_management.OOM_EXCEPTION("the card is full")

    big = {"tile_size": 64, "overlap": 16}
    network = positive[0][1]["control"].control_model
    handle = network.register_forward_pre_hook(fail)
    (found,) = call_model(tiled(model, 2, **big), x, timesteps, positive)
    handle.remove()
    assert torch.equal(found, call_model(tiled(model, **big), x, timesteps, positive)[0])
    assert "out of memory; going on with" in caplog.text and "1 at once." in caplog.text


def test_the_next_run_tries_the_wanted_tiles_again(host, model, caplog) -> None:
    x, timesteps = noisy(1, 96, 24)
    import comfy.model_management as mm
    from comfy.patcher_extension import WrappersMP

    failures = [True]

    def once(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        if failures and failures.pop():
            raise mm.OOM_EXCEPTION("another program took it")
        return executor(*args, **kwargs)

    patched = tiled(model, tile_size=64, overlap=16)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "once", once)
    (smaller,) = call_model(patched, x, timesteps, conditioning(text()))
    (again,) = call_model(patched, x, timesteps, conditioning(text()))
    (wanted,) = call_model(
        tiled(model, tile_size=64, overlap=16), x, timesteps, conditioning(text())
    )
    assert torch.equal(again, wanted) and not torch.equal(smaller, wanted)


def test_what_does_not_help_is_the_hosts_own_error(host, model) -> None:
    import comfy.model_management as mm

    x, timesteps = noisy(1, 96, 24)
    patched = tiled(limited(model, 0, 0), 4, tile_size=64, overlap=16)
    with pytest.raises(mm.OOM_EXCEPTION):
        call_model(patched, x, timesteps, conditioning(text()))

    from comfy.patcher_extension import WrappersMP

    calls = []

    def broken(*_: Any, **__: Any) -> Tensor:
        calls.append(1)
        raise ZeroDivisionError

    patched = tiled(model, tile_size=64, overlap=16)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "broken", broken)
    with pytest.raises(ZeroDivisionError):
        call_model(patched, x, timesteps, conditioning(text()))
    assert len(calls) == 1, "another error was taken for a full card"


def test_an_interrupt_gives_controls_their_hints_back(host, model) -> None:
    mm = host.model_management
    positive = controlled(
        conditioning(text()), core_controlnet(ldm_unet_config(SMALL), 21), picture()
    )
    control = positive[0][1]["control"]
    expected = sample(host, tiled(model), positive, positive, torch.zeros(1, 4, HEIGHT, WIDTH))
    calls = []

    def stop(*_: Any) -> None:
        calls.append(1)
        mm.interrupt_current_processing(len(calls) == 5)
        if len(calls) == 5:
            mm.throw_exception_if_processing_interrupted()

    handle = control.control_model.register_forward_pre_hook(stop)
    hint = control.cond_hint_original
    try:
        with pytest.raises(mm.InterruptProcessingException):
            sample(host, tiled(model), positive, positive, torch.zeros(1, 4, HEIGHT, WIDTH))
    finally:
        handle.remove()
        mm.interrupt_current_processing(False)
    assert len(calls) == 5 and control.cond_hint_original is hint
    again = sample(host, tiled(model), positive, positive, torch.zeros(1, 4, HEIGHT, WIDTH))
    assert torch.equal(again, expected)


def announced(host: Any, monkeypatch: Any, run: Any) -> float:
    """What the host was asked to keep free for a run."""
    asked: list[float] = []
    mm = host.model_management
    original = mm.load_models_gpu

    def load(models: Any, memory_required: float = 0, **kwargs: Any) -> Any:
        asked.append(memory_required)
        return original(models, memory_required=memory_required, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(mm, "load_models_gpu", load)
        run()
    return max(asked)


@pytest.mark.parametrize("batch", [1, 3])
def test_memory_is_reserved_for_one_call_not_for_the_whole(
    host, model, monkeypatch, caplog, batch
) -> None:
    side, height, width = 16, 64, 48
    _, _, negative = everything(host, model, 1)
    control = negative[0][1]["control"].previous_controlnet

    def of(patched: Any, height: int, width: int, rows: int = 1) -> float:
        hint = seeded_input(3, "hint", rows, 4, height, width) / 0.18215
        conds = []
        for name in ("good", "bad"):
            held = control.copy().set_latent_hint({"samples": hint}["samples"], 1.0)
            conds.append([[text(name), {"control": held, "control_apply_to_uncond": False}]])
        start = torch.zeros(rows, 4, height, width)
        return announced(host, monkeypatch, lambda: sample(host, patched, *conds, start, steps=1))

    with caplog.at_level(logging.INFO):
        found = of(tiled(model, batch, tile_size=side, overlap=4), height, width)
    # Like an untiled run over as many pictures of a tile's size.
    assert found == pytest.approx(of(model, side, side, batch), rel=1e-3)
    assert found < 0.4 * of(model, height, width)
    assert (
        "Tiled Restoration: 384x512 pixels in 20 tiles of 128x128 (4 x 5), overlap 32"
        in caplog.text
    )
    assert f"{batch} at once; about " in caplog.text and "MiB for the work of a call" in caplog.text


def test_the_node_speaks_pixels(host, model) -> None:
    from restoration.nodes.tiling import TiledRestoration

    x, timesteps = noisy(1, 40, 80)
    inputs = {"tile_size": 256, "tile_overlap": 64, "tile_batch_size": 2, "weighting": "hann"}
    (patched,) = TiledRestoration.execute(model, **inputs).result
    (found,) = call_model(patched, x, timesteps, conditioning(text()))
    by_hand = tiled(model, weighting="hann", tile_size=32, overlap=8)
    torch.testing.assert_close(
        found, call_model(by_hand, x, timesteps, conditioning(text()))[0], **CLOSE
    )
    assert TiledRestoration.validate_inputs(tile_size=256, tile_overlap=64) is True
    refused = TiledRestoration.validate_inputs(tile_size=256, tile_overlap=256)
    assert "tile_overlap is 256 and tile_size 256: the overlap must be 0 or more" in refused
