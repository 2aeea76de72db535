"""The exact tiled VAE against the host's own whole VAE: small real autoencoders, both versions."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.common.images import from_image
from restoration.tests.host.networks import seeded_input, seeded_weights

pytestmark = pytest.mark.host

CONFIG: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
"""Stable Diffusion's autoencoder with a quarter of its channels and half of its blocks."""
TOLERANCE = 1e-4
"""Of pictures in 0..1 and latents of -3..3, for the rounding of some 40 layers in another order;
the promise is 1e-3."""


def kl_vae(config: dict[str, Any] = CONFIG, dtype: torch.dtype | None = None) -> Any:
    """The host's VAE with random weights whose pictures fill 0..1."""
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    weights = seeded_weights(AutoencoderKL(ddconfig=config, embed_dim=config["z_channels"]))
    for key in ("decoder.conv_out.weight", "encoder.conv_out.weight"):
        weights[key] *= 2
    params = {"ddconfig": config, "embed_dim": config["z_channels"]}
    return comfy.sd.VAE(sd=weights, config={"params": params}, dtype=dtype)


@pytest.fixture(autouse=True)
def _as_in_a_node() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def vae(comfy) -> Any:
    return kl_vae()


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    """Not stationary, like a photo: the tiles of its two halves have other statistics."""
    noise = seeded_input(0, f"picture{height}", batch, height, width, 3)
    ramp = torch.linspace(-3, 3, height)[:, None, None] * torch.linspace(0.2, 1, width)[:, None]
    return (noise * torch.linspace(0.1, 1.5, width)[:, None] + ramp).sigmoid()


def latent(height: int, width: int, batch: int = 1) -> Tensor:
    noise = seeded_input(1, f"latent{height}", batch, 4, height, width)
    return noise * torch.linspace(0.3, 3, width) + torch.linspace(-2, 2, height)[:, None]


def encode(vae: Any, pixels: Tensor, tile_size: int) -> Tensor:
    """Also with tiles smaller than the node offers."""
    from restoration.host.exact_vae import encode_exact

    return encode_exact(vae, from_image(pixels, "pixels")[0], tile_size)


def decode(vae: Any, samples: Tensor, tile_size: int) -> Tensor:
    from restoration.host.exact_vae import decode_exact

    return decode_exact(vae, samples, tile_size)


@contextmanager
def convolutions_seen(vae: Any, see: Callable[[Tensor], object]) -> Iterator[None]:
    """Calls `see` with the input of every convolution of the VAE."""

    def hook(_: torch.nn.Module, given: tuple[Tensor]) -> None:
        see(given[0])

    convolutions = [p for p in vae.first_stage_model.modules() if isinstance(p, torch.nn.Conv2d)]
    handles = [part.register_forward_pre_hook(hook) for part in convolutions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def assert_same(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    error = (found - expected).abs()
    assert error.max() < tolerance, f"max {error.max():.2e}, mean {error.mean():.2e}"


# Primes, sides below a tile, one latent cell, and shapes that end within a box at every level.
SIZES = [(64, 64), (8, 8), (127, 83), (200, 40), (16, 264), (97, 151)]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("tile_size", [24, 64, 4096])
def test_encoding_is_the_whole_vaes(vae, height: int, width: int, tile_size: int) -> None:
    pixels = picture(height, width)
    whole = vae.encode(pixels)
    assert whole.abs().max() > 0.3
    assert_same(encode(vae, pixels, tile_size), whole)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 1), (15, 11), (25, 5), (2, 33)])
@pytest.mark.parametrize("tile_size", [24, 64, 4096])
def test_decoding_is_the_whole_vaes(vae, height: int, width: int, tile_size: int) -> None:
    samples = latent(height, width)
    whole = vae.decode(samples)
    assert whole.std() > 0.05, "a picture that tells errors"
    assert_same(decode(vae, samples, tile_size), whole)


def test_a_tile_of_one_pixel(vae) -> None:
    """Far below what the node offers: every box is one cell."""
    assert_same(encode(vae, picture(16, 24), 1), vae.encode(picture(16, 24)))
    assert_same(decode(vae, latent(2, 3), 1), vae.decode(latent(2, 3)))


def test_batches_gray_and_alpha(vae) -> None:
    pixels = picture(72, 56, batch=3)
    whole = vae.encode(pixels)
    found = encode(vae, pixels, 32)
    assert_same(found, whole)
    assert torch.equal(encode(vae, pixels[1:2], 32)[0], found[1]), "images do not see each other"
    assert torch.equal(encode(vae, torch.cat([pixels, pixels[..., :1]], -1), 32), found)
    gray = pixels[..., :1]
    assert torch.equal(encode(vae, gray, 32), encode(vae, gray.expand(-1, -1, -1, 3), 32))
    assert_same(decode(vae, latent(9, 7, batch=2), 32), vae.decode(latent(9, 7, batch=2)))


def test_the_nodes_are_this(vae) -> None:
    from restoration.nodes.vae import TiledVAEDecodeExact, TiledVAEEncodeExact

    pixels, samples = picture(96, 80), latent(12, 11)
    (encoded,) = TiledVAEEncodeExact.execute(pixels, vae, 64).result
    (decoded,) = TiledVAEDecodeExact.execute({"samples": samples}, vae, 64).result
    assert torch.equal(encoded["samples"], encode(vae, pixels, 64))
    assert torch.equal(decoded, decode(vae, samples, 64))


def test_statistics_of_the_tile_alone_would_show(vae, monkeypatch) -> None:
    """That the equality above rests on the statistics of the whole picture."""
    from restoration.host.boxed_layers import LayerRun

    def local(self: Any, norm: Any, source: Any) -> Any:
        return norm

    monkeypatch.setattr(LayerRun, "normalization", local)
    samples = latent(15, 11)
    error = (decode(vae, samples, 32) - vae.decode(samples)).abs().max()
    assert error > 100 * TOLERANCE
    # With one tile there is nothing to tell apart.
    assert_same(decode(vae, latent(3, 3), 64), vae.decode(latent(3, 3)))


def test_cores_tiled_nodes_are_further_off(vae) -> None:
    """What the node is for, and that the test pictures are hard enough to show it."""
    samples = latent(24, 24)
    whole = vae.decode(samples)
    core = vae.decode_tiled(samples, tile_x=8, tile_y=8, overlap=2)
    assert (core - whole).abs().max() > 1e-2
    assert_same(decode(vae, samples, 64), whole)


def test_nothing_changes_for_the_next_user_of_the_vae(vae) -> None:
    samples, model = latent(9, 7), vae.first_stage_model
    before = vae.decode(samples)
    modules = {name: (type(part), part.forward) for name, part in model.named_modules()}
    given = samples.clone()
    decode(vae, samples, 32)
    encode(vae, picture(40, 40), 32)
    assert torch.equal(samples, given)
    assert modules == {name: (type(part), part.forward) for name, part in model.named_modules()}
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert torch.equal(vae.decode(samples), before)


def test_weights_that_the_host_patches_while_loading_count(comfy) -> None:
    """The normalisation reads its weights as the host's layers do, lowered memory included."""
    vae, samples = kl_vae(), latent(6, 5)
    plain = vae.decode(samples)  # and with it the host has loaded the weights
    for part in vae.first_stage_model.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.comfy_cast_weights = True
            part.weight_function = [lambda weight: 1.5 * weight]
            part.bias_function = [lambda bias: bias - 0.25]
    assert (vae.decode(samples) - plain).abs().max() > 1e-2
    assert_same(decode(vae, samples, 32), vae.decode(samples))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_close_to_the_truth_as_the_whole_vae(comfy, dtype) -> None:
    """The whole VAE rounds elsewhere, so the measure is the same weights in float32."""
    half, samples, pixels = kl_vae(dtype=dtype), latent(7, 5), picture(56, 40)
    single = kl_vae()
    for part in ("decode", "encode"):
        given = samples if part == "decode" else pixels
        exact = decode if part == "decode" else encode
        truth, whole = getattr(single, part)(given), getattr(half, part)(given)
        found = exact(half, given, 24)
        assert found.dtype == whole.dtype
        assert (found - truth).abs().mean() < 1.3 * (whole - truth).abs().mean()


def test_convolutions_run_in_the_vaes_dtype(comfy) -> None:
    seen: set[torch.dtype] = set()
    vae = kl_vae(dtype=torch.bfloat16)
    with convolutions_seen(vae, lambda values: seen.add(values.dtype)):
        decode(vae, latent(6, 6), 32)
    assert seen == {torch.bfloat16}


@pytest.mark.parametrize("tile_size", [16, 32, 64])
def test_what_a_layer_sees_is_bounded_by_the_tile(vae, tile_size: int) -> None:
    sizes: list[int] = []

    def largest(height: int, width: int) -> int:
        sizes.clear()
        with convolutions_seen(vae, lambda values: sizes.append(values[0].numel())):
            decode(vae, latent(height, width), tile_size)
            encode(vae, picture(8 * height, 8 * width), tile_size)
        return max(sizes)

    # The widest map at full resolution has 64 channels; upsampling brings a ring of cells each
    # side, of the coarse grid.
    bound = 64 * (tile_size + 4) ** 2
    assert max(largest(16, 12), largest(24, 32), largest(2, 120)) <= bound


@pytest.mark.parametrize(("room", "stored"), [(0, 1.0), (2**40, 1.5)])
def test_maps_in_host_memory_are_what_the_plan_says(
    vae, caplog, monkeypatch, room: int, stored: float
) -> None:
    """The largest single map, with room also what a residual block has inside, and one band of boxes
    beside them."""
    from restoration.common.feature_map import FeatureMap
    from restoration.host import boxed_layers, exact_vae

    held: list[int] = []
    alive: weakref.WeakSet[FeatureMap] = weakref.WeakSet()

    class Watched(FeatureMap):
        def append(self, band: Tensor) -> None:
            super().append(band)
            alive.add(self)
            held.append(sum(part.numel() for each in alive for _, part in each._bands))

    for module in (boxed_layers, exact_vae):
        monkeypatch.setattr(module, "FeatureMap", Watched)
    monkeypatch.setattr(exact_vae, "room_for_maps", lambda vae: room)
    with caplog.at_level(logging.INFO):
        decode(vae, latent(32, 16), 32)
    # 64 channels at 256 x 128 behind the last upsampling.
    largest = 64 * 256 * 128
    assert f"and {stored * largest * 4 / 2**20:.1f} MiB of RAM" in caplog.text
    assert stored * largest <= max(held) < (stored + 0.3) * largest, max(held) / largest


@pytest.mark.parametrize(("room", "dearest"), [(0, 1.2), (2**40, 1.05)])
def test_only_a_lack_of_room_computes_anything_but_rings_twice(
    vae, monkeypatch, room: int, dearest: float
) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from restoration.host import exact_vae

    def operations(run: Callable[[], object]) -> int:
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    monkeypatch.setattr(exact_vae, "room_for_maps", lambda vae: room)
    pixels, samples = picture(256, 256), latent(32, 32)
    pairs = [
        (lambda: encode(vae, pixels, 128), lambda: vae.encode(pixels)),
        (lambda: decode(vae, samples, 128), lambda: vae.decode(samples)),
    ]
    for exact, whole in pairs:
        ratio = operations(exact) / operations(whole)
        assert 1 <= ratio < dearest
        if room == 0:
            assert ratio > 1.05, "the bound tells a block that is computed twice"


def test_out_of_memory_takes_the_next_smaller_tile_and_says_so(comfy, vae, caplog) -> None:
    from restoration.host import report

    told: list[str] = []
    samples = latent(40, 32)
    whole = vae.decode(samples)

    def scarce(values: Tensor) -> None:
        if values.shape[-1] > 80:
            raise comfy.model_management.OOM_EXCEPTION("injected")

    with pytest.MonkeyPatch.context() as patch, convolutions_seen(vae, scarce):
        patch.setattr(report, "show", lambda text, node_id=None: told.append(text))
        with caplog.at_level(logging.INFO):
            found = decode(vae, samples.repeat(2, 1, 1, 1), 320)
    assert_same(found, whole.expand(2, -1, -1, -1))
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "out of memory with tiles of 320, trying 160" in line]
    assert len([line for line in lines if "out of memory" in line]) == 2, "then 80 fits"
    # Before the run, and again with every tile; the second picture starts with what worked.
    assert told[0].startswith("VAE Decode (Tiled, Exact): 256x320 pixels in 1x1 tiles of at most")
    assert "4x4 tiles of now only 80" in told[-1]
    assert ["out of memory" in text for text in told] == [False, True, False, True, False]


def test_memory_that_never_suffices_raises_the_hosts_error(comfy, vae) -> None:
    def scarce(values: Tensor) -> None:
        raise comfy.model_management.OOM_EXCEPTION("injected")

    with convolutions_seen(vae, scarce), pytest.raises(comfy.model_management.OOM_EXCEPTION):
        encode(vae, picture(200, 200), 512)


def test_progress_and_interruption(comfy, vae, monkeypatch) -> None:
    import comfy.utils

    reports: list[tuple[int, int]] = []
    monkeypatch.setattr(
        comfy.utils,
        "PROGRESS_BAR_HOOK",
        lambda value, total, *_, **__: reports.append((value, total)),
    )
    samples = latent(9, 7, batch=2)
    expected = decode(vae, samples, 32)
    total = reports[0][1]
    # Every box counts as one; what the plan has promised is what comes.
    assert reports[0] == (1, total) and reports[-1] == (total, total) and total > 50

    calls = 0

    def interrupt(_: Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls == 20:
            comfy.model_management.interrupt_current_processing(True)

    try:
        with (
            convolutions_seen(vae, interrupt),
            pytest.raises(comfy.model_management.InterruptProcessingException),
        ):
            decode(vae, samples, 32)
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert calls < 25
    assert torch.equal(decode(vae, samples, 32), expected), "and the VAE is as it was"


def test_the_host_is_asked_for_the_memory_of_a_tile(comfy, vae, monkeypatch) -> None:
    asked: list[float] = []
    load = comfy.model_management.load_models_gpu

    def watched(models: list[Any], memory_required: float = 0, **rest: Any) -> None:
        asked.append(memory_required)
        load(models, memory_required=memory_required, **rest)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", watched)
    decode(vae, latent(32, 16), 64)
    assert asked == [vae.memory_used_decode((1, 4, 9, 9), torch.float32)]


def test_attention_within_levels_and_other_depths(comfy) -> None:
    """Layouts of the family that Stable Diffusion does not use."""
    other = {**CONFIG, "ch_mult": [1, 2, 2], "num_res_blocks": 2, "attn_resolutions": [64]}
    vae = kl_vae(other)
    vae.downscale_ratio = vae.upscale_ratio = 4
    assert any(len(level.attn) for level in vae.first_stage_model.decoder.up)
    assert_same(decode(vae, latent(20, 11), 16), vae.decode(latent(20, 11)))
    assert_same(encode(vae, picture(50, 61), 16), vae.encode(picture(50, 61)))


def test_an_autoencoder_without_quantising_convolutions(comfy) -> None:
    """As Flux and SD3 have it, with 16 latent channels."""
    import comfy.model_patcher
    from comfy.ldm.models.autoencoder import AutoencodingEngine

    config = {**CONFIG, "z_channels": 16}
    vae, place = kl_vae(config), "comfy.ldm.modules.diffusionmodules.model"
    engine = AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
        encoder_config={"target": f"{place}.Encoder", "params": config},
        decoder_config={"target": f"{place}.Decoder", "params": config},
    )
    engine.load_state_dict(seeded_weights(engine))
    vae.first_stage_model, vae.latent_channels = engine.eval(), 16
    vae.patcher = comfy.model_patcher.ModelPatcher(engine, vae.device, vae.device)
    samples = seeded_input(0, "samples", 1, 16, 7, 9)
    assert_same(decode(vae, samples, 32), vae.decode(samples))
    assert_same(encode(vae, picture(56, 40), 32), vae.encode(picture(56, 40)))


def test_another_kind_of_vae_gets_a_sentence(comfy, vae) -> None:
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    taesd = comfy.sd.VAE(sd=TAESD().state_dict())
    for run in (lambda: decode(taesd, latent(4, 4), 64), lambda: encode(taesd, picture(9, 9), 64)):
        with pytest.raises(ValueError, match=r"`vae` is a TAESD .* SD 1.5, SD 2 and SDXL.*Tiled"):
            run()
    invalid = comfy.sd.VAE(sd=TAESD().state_dict())
    invalid.first_stage_model = None
    with pytest.raises(ValueError, match="`vae` is a VAE without a network"):
        decode(invalid, latent(4, 4), 64)
    with pytest.raises(ValueError, match="`vae` is a str without a network"):
        decode("sd15", latent(4, 4), 64)


def test_bad_input_gets_a_sentence(vae) -> None:
    with pytest.raises(ValueError, match=r"`samples` has the shape \(1, 16, 4, 4\).*\(batch, 4,"):
        decode(vae, torch.zeros(1, 16, 4, 4), 64)
    with pytest.raises(ValueError, match="`samples` has the shape"):
        decode(vae, torch.zeros(1, 4, 1, 4, 4), 64)
    with pytest.raises(ValueError, match="30x7; this VAE needs at least 8 pixels a side"):
        encode(vae, picture(7, 30), 64)
    with pytest.raises(ValueError, match="`pixels` contains NaN"):
        encode(vae, torch.full((1, 16, 16, 3), float("nan")), 64)


def test_a_tiny_vae_decodes_in_place_of_the_real_one(comfy) -> None:
    """TAESD as core's Load VAE makes it, where a recipe is given it: core's node, also in tiles."""
    from comfy.sd import VAE
    from comfy.taesd.taesd import TAESD

    from restoration.common.recipe import Settings
    from restoration.onestep.recipe import pisasr_recipe

    sockets = ("image", "model", "clip", "vae", "onestep_model", "decode_vae")
    given = {name: [name, 0] for name in sockets}
    graph = pisasr_recipe(given, Settings(4.0, 0.5, "", tile_size=768))
    assert graph["latent"]["class_type"] == "TiledVAEEncodeExact"
    assert graph["latent"]["inputs"]["vae"] == ["vae", 0]
    assert graph["decoded"]["class_type"] == "VAEDecode"
    assert graph["decoded"]["inputs"]["vae"] == ["decode_vae", 0]

    weights = {
        f"{part}.{key}": value
        for part in ("taesd_encoder", "taesd_decoder")
        for key, value in seeded_weights(getattr(TAESD(), part)).items()
    }
    weights |= {"vae_scale": torch.tensor(0.18215), "vae_shift": torch.tensor(0.0)}
    (decoded,) = comfy.nodes.VAEDecode().decode(VAE(sd=weights), {"samples": latent(9, 7)})
    assert decoded.shape == (1, 72, 56, 3) and 0 <= decoded.min() < decoded.max() <= 1
