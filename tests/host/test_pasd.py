"""PASD in the real host: loader, both variants against the UNet written out by hand, and company."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from restoration.common.state_dict import CheckpointError
from restoration.tests.host.networks import (
    call_model,
    conditioning,
    core_controlnet,
    sample,
    seeded_input,
)
from restoration.tests.host.pasd_networks import (
    Applied,
    base_model,
    encoded,
    networks,
    published_files,
    reference,
    sd15,
    sdxl,
)

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 12, 16
TEXT = 16
VARIANTS = ("pasd", "pasd_light")
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-5}
"""float32 against the same sums in another order; the patch moves values by more than 0.05."""


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


@pytest.fixture(scope="module")
def model(host) -> Any:
    return base_model(sd15())


@pytest.fixture(scope="module")
def both(host) -> dict[str, Any]:
    """The networks of each variant."""
    return {variant: networks(sd15(), variant) for variant in VARIANTS}


@pytest.fixture(params=VARIANTS)
def pasd(request: pytest.FixtureRequest, both) -> Any:
    return both[request.param]


def picture(rows: int = 1, height: int = HEIGHT, width: int = WIDTH, name: str = "p") -> Tensor:
    return torch.sigmoid(seeded_input(9, name, rows, 8 * height, 8 * width, 3))


def noisy(rows: int = 1, height: int = HEIGHT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """x in the variance-preserving scale, and its timesteps."""
    return seeded_input(5, "x", rows, 4, height, width), torch.full((rows,), 500)


def text(name: str = "good", width: int = TEXT) -> Tensor:
    return seeded_input(3, name, 1, 7, width)


def pair() -> tuple[list, list]:
    return conditioning(text()), conditioning(text("bad"))


def empty(rows: int = 1) -> Tensor:
    return torch.zeros(rows, 4, HEIGHT, WIDTH)


def applied(model: Any, pasd: Any, image: Tensor | None = None, **inputs: Any) -> Any:
    """MODEL through the node."""
    from restoration.nodes.pasd import PACAControlApply

    inputs = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, **inputs}
    image = picture() if image is None else image
    return PACAControlApply.execute(model, pasd, image, **inputs).result[0]


def eps(model: Any, x: Tensor, timesteps: Tensor, y: Tensor | None = None) -> Tensor:
    """One call with the positive text."""
    import comfy.conds

    entries = {} if y is None else {"model_conds": {"y": comfy.conds.CONDRegular(y)}}
    return call_model(model, x, timesteps, conditioning(text(), **entries))[0]


def pixels(image: Tensor) -> Tensor:
    return image.movedim(-1, 1)


def by_hand(model: Any, pasd: Any, x: Tensor, image: Tensor, y: Any = None, **how: Any) -> Tensor:
    steps = torch.full((len(x),), 500)
    return reference(model, x, steps, text(), [Applied(pasd, pixels(image), **how)], y)


# Loading


@pytest.fixture
def models(host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models/restoration."""
    from restoration.host.folders import KIND, register_folders

    register_folders()
    entry = ([str(tmp_path)], host.folder_paths.folder_names_and_paths[KIND][1])
    monkeypatch.setitem(host.folder_paths.folder_names_and_paths, KIND, entry)
    host.folder_paths.filename_list_cache.pop(KIND, None)
    return tmp_path


def write(weights: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
    else:
        torch.save(weights, path)


def load(unet: str, control: str | None = None) -> Any:
    from restoration.host.folders import SAME_FILE
    from restoration.nodes.pasd import PASDLoader

    return PASDLoader.execute(unet, control or SAME_FILE).result[0]


def whole_unet(config: Any, added: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published file: the trained part between all of Stable Diffusion's own keys."""
    import comfy.utils

    table = comfy.utils.unet_to_diffusers(config.unet_config())
    return {**{key: torch.zeros(1) for key in table}, **added}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rrdb", [False, True], ids=["plain", "rrdb"])
@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_published_folders_load_as_they_are(models, model, variant, rrdb, ending) -> None:
    unet, control = published_files(sd15(), variant, rrdb=rrdb)
    names = [
        f"{variant}/{part}/diffusion_pytorch_model.{ending}" for part in ("unet", "controlnet")
    ]
    for name, weights in zip(names, (whole_unet(sd15(), unet), control), strict=True):
        write(weights, models / name)
    found = load(*names)
    assert (found.variant, found.config) == (variant, sd15())
    assert hasattr(found.encoder.model.preprocesser, "children")
    assert len(list(found.encoder.model.preprocesser.children())) == (2 if rrdb else 0)
    expected = networks(sd15(), variant, rrdb=rrdb)
    for part in ("encoder", "control", "attention"):
        ours, theirs = (getattr(each, part).model.state_dict() for each in (found, expected))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    x, timesteps = noisy()
    out = eps(applied(model, found), x, timesteps)
    torch.testing.assert_close(out, by_hand(model, expected, x, picture()), **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_converted_file_holds_both_networks(models, model, both, variant) -> None:
    unet, control = published_files(sd15(), variant)
    contents = {f"unet.{key}": value for key, value in unet.items()}
    contents |= {f"controlnet.{key}": value for key, value in control.items()}
    write(contents, models / "pasd.safetensors")
    call = noisy()
    assert torch.equal(
        eps(applied(model, load("pasd.safetensors")), *call),
        eps(applied(model, both[variant]), *call),
    )


def test_half_precision_files_load_and_run_with_any_unet(models, model, pasd) -> None:
    unet, control = published_files(sd15(), pasd.variant)
    for name, weights in (("u.bin", unet), ("c.bin", control)):
        write({key: value.half() for key, value in weights.items()}, models / name)
    call = noisy()
    half, whole = (
        eps(applied(model, load("u.bin", "c.bin")), *call),
        eps(applied(model, pasd), *call),
    )
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, whole, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda u, c: (whole_unet(sd15(), {}), c), "u.bin is not the UNet of PASD: .*Checkpoint"),
        (lambda u, c: (c, u), "u.bin is not the UNet of PASD: .*belongs into control_net_name"),
        (lambda u, c: (u, u), "c.bin is not the control network of PASD: .*into unet_name"),
        (
            lambda u, c: (without(u, "proj_in"), c),
            r"u.bin is not the UNet of PASD for Stable Diffusion 1.x.*: \d+ of \d+ weights are "
            "missing .*from one release",
        ),
        (
            lambda u, c: ({**u, "up_blocks.9.pixel_attentions.0.norm.bias": torch.zeros(1)}, c),
            "u.bin is .*: 1 do not belong to it",
        ),
        (
            lambda u, c: (u, without(c, ".blocks.3.bias")),
            r"c.bin .*1 of \d+ weights are missing .*blocks\.3\.bias",
        ),
        (
            lambda u, c: (u, without(c, "cond_embedding.conv_out")),
            r"c.bin .*2 of \d+ weights are missing .*embedding\.conv_out\.bias",
        ),
        (
            lambda u, c: (u, without(c, "down_blocks.1.resnets.0.conv2")),
            "c.bin is not the control network of PASD: 2 of",
        ),
        (
            lambda u, c: (u, {**c, "down_blocks.0.extra.weight": torch.zeros(1)}),
            "c.bin is .*: 1 do not belong to it",
        ),
        (
            lambda u, c: (u, published_files(wide_sdxl())[1]),
            "u.bin is not the UNet of PASD for SDXL, as its control network is",
        ),
    ],
    ids=[
        "no PACA",
        "swapped",
        "unet twice",
        "incomplete",
        "too much",
        "encoder",
        "encoder layer",
        "control",
        "control too much",
        "families",
    ],
)
def test_wrong_files_get_a_sentence(models, make, words) -> None:
    for name, weights in zip(("u.bin", "c.bin"), make(*published_files(sd15())), strict=True):
        write(weights, models / name)
    with pytest.raises(CheckpointError, match=words):
        load("u.bin", "c.bin")


def wide_sdxl() -> Any:
    """With heads as wide as the published ones."""
    sizes = {"depths": (0, 1, 1), "use_linear": True, "adm_channels": 24}
    return sd15(channels=(64, 64, 64), num_heads=-1, num_head_channels=64, **sizes)


def without(weights: dict[str, Tensor], fragment: str) -> dict[str, Tensor]:
    kept = {key: value for key, value in weights.items() if fragment not in key}
    assert len(kept) < len(weights)
    return kept


def test_a_replaced_file_is_read_again(models) -> None:
    from restoration.host.folders import SAME_FILE
    from restoration.nodes.pasd import PASDLoader

    for name in ("u.bin", "c.bin"):
        (models / name).write_bytes(b"1")
    before = PASDLoader.fingerprint_inputs("u.bin", "c.bin")
    alone = PASDLoader.fingerprint_inputs("u.bin", SAME_FILE)
    assert before == PASDLoader.fingerprint_inputs("u.bin", "c.bin")
    os.utime(models / "c.bin", ns=(1, 1))
    assert before != PASDLoader.fingerprint_inputs("u.bin", "c.bin")
    assert alone == PASDLoader.fingerprint_inputs("u.bin", SAME_FILE)


def test_the_dropdown_offers_every_release_and_no_detector(models) -> None:
    from restoration.host.folders import network_files

    for name in ("pasd/unet/a.safetensors", "pasd/controlnet/a.bin", "yunet.onnx"):
        write({"x": torch.zeros(1)}, models / name)
    assert network_files() == ["pasd/controlnet/a.bin", "pasd/unet/a.safetensors"]


def test_another_base_is_refused(model, both) -> None:
    stranger = base_model(sd15(context_dim=24))
    with pytest.raises(
        ValueError, match=r"belong to Stable Diffusion 1.x \(text features 16 wide, "
    ):
        applied(stranger, both["pasd"])
    with pytest.raises(ValueError, match=r"is a str, not the networks of PASD\. Connect Load PASD"):
        applied(model, "pasd.bin")


# Exactness


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (11, 13)], ids=str)
@pytest.mark.parametrize("strength", [1.0, 0.7, 0.0])
def test_one_call_equals_the_unet_written_out_by_hand(model, pasd, size, strength) -> None:
    x, timesteps = noisy(2, *size)
    image = picture(2, *size)
    found = eps(applied(model, pasd, image, strength=strength), x, timesteps)
    expected = by_hand(model, pasd, x, image, strength=strength)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert (found - eps(model, x, timesteps)).abs().mean() > 0.01, "PASD changes nothing"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_structure_of_sdxl(host, variant) -> None:
    """Linear projections, heads of one width, deep transformers, a second conditioning."""
    base, pasd = base_model(sdxl()), networks(sdxl(), variant)
    x, timesteps = noisy()
    y = seeded_input(3, "y", 1, 24)
    found = eps(applied(base, pasd), x, timesteps, y)
    torch.testing.assert_close(found, by_hand(base, pasd, x, picture(), y), **CLOSE)
    assert (found - eps(base, x, timesteps, y)).abs().mean() > 0.01


def test_rrdb_encoder(model, both) -> None:
    pasd = networks(sd15(), "pasd", rrdb=True)
    x, timesteps = noisy()
    found = eps(applied(model, pasd), x, timesteps)
    torch.testing.assert_close(found, by_hand(model, pasd, x, picture()), **CLOSE)
    assert not torch.allclose(found, eps(applied(model, both["pasd"]), x, timesteps), atol=1e-3)


# What changes nothing


@pytest.mark.parametrize("percents", [(0.0, 0.0), (1.0, 1.0), (0.7, 0.3)], ids=str)
def test_empty_range_is_the_plain_model_bit_for_bit(host, model, pasd, percents) -> None:
    start, end = percents
    patched = applied(model, pasd, start_percent=start, end_percent=end)
    expected = sample(host, model, *pair(), empty())
    assert torch.equal(sample(host, patched, *pair(), empty()), expected)


def test_range_is_that_part_of_the_run(host, model, pasd) -> None:
    """Two of four steps; outside them the run is the plain one."""
    seen: list[int] = []
    handle = watch(pasd.control.model, lambda *_: seen.append(1))
    sample(host, applied(model, pasd, end_percent=0.5), *pair(), empty(), steps=4)
    handle.remove()
    assert len(seen) == 2


def zeroed(pasd: Any, *parts: str) -> Any:
    """The same networks, parts of them all zero. control: its last convolutions."""
    spoilt = deepcopy(
        SimpleNamespace(**{part: getattr(pasd, part).model for part in ("control", "attention")})
    )
    with torch.no_grad():
        if "residuals" in parts:
            for conv in (spoilt.control.zero_convs, spoilt.control.middle_block_out):
                for parameter in conv.parameters():
                    parameter.zero_()
        if "attention" in parts:
            for parameter in spoilt.attention.parameters():
                parameter.zero_()
    from dataclasses import replace

    return replace(pasd, control=patcher(spoilt.control), attention=patcher(spoilt.attention))


def patcher(network: torch.nn.Module) -> Any:
    import comfy.model_patcher

    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(network, load_device=cpu, offload_device=cpu)


def test_nothing_to_add_is_the_plain_model_bit_for_bit(host, model, pasd) -> None:
    expected = sample(host, model, *pair(), empty())
    silent = zeroed(pasd, "residuals", "attention")
    assert torch.equal(sample(host, applied(model, silent), *pair(), empty()), expected)
    no_attention = zeroed(pasd, "attention")
    mute = applied(model, no_attention, strength=0.0)
    assert torch.equal(sample(host, mute, *pair(), empty()), expected)


@pytest.mark.parametrize("part", ["residuals", "attention"])
def test_residuals_and_attention_each_matter(model, pasd, part) -> None:
    call = noisy()
    found = eps(applied(model, zeroed(pasd, part)), *call)
    for other in (model, applied(model, pasd)):
        assert (found - eps(other, *call)).abs().mean() > 0.01


# Masks


@pytest.mark.parametrize(
    "size", [(1, 1), (7, 5), (HEIGHT, WIDTH), (8 * HEIGHT, 8 * WIDTH)], ids=str
)
def test_white_mask_is_no_mask_and_black_mask_is_the_plain_model(model, pasd, size) -> None:
    call = noisy()
    white, black = (applied(model, pasd, mask=make(1, *size)) for make in (torch.ones, torch.zeros))
    assert torch.equal(eps(white, *call), eps(applied(model, pasd), *call))
    assert torch.equal(eps(black, *call), eps(model, *call))


def test_white_and_black_mask_through_a_whole_run(host, model, pasd) -> None:
    for make, other in ((torch.ones, applied(model, pasd)), (torch.zeros, model)):
        masked = applied(model, pasd, mask=make(1, 97, 81))
        found = sample(host, masked, *pair(), empty())
        assert torch.equal(found, sample(host, other, *pair(), empty()))


def test_mask_weighs_what_is_added_and_not_what_is_looked_at(model, pasd) -> None:
    x, timesteps = noisy()
    mask = torch.rand(1, HEIGHT, WIDTH)
    found = eps(applied(model, pasd, mask=mask), x, timesteps)
    torch.testing.assert_close(found, by_hand(model, pasd, x, picture(), mask=mask[None]), **CLOSE)


def test_a_mask_per_picture(model, pasd) -> None:
    x, timesteps = noisy(2)
    mask = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
    found = eps(applied(model, pasd, picture(2), mask=mask), x, timesteps)
    assert torch.equal(found[0], eps(applied(model, pasd, picture(2)), x, timesteps)[0])
    torch.testing.assert_close(found[1], eps(model, x, timesteps)[1], **CLOSE)


def painted(height: int, width: int) -> Tensor:
    """1 H W: a rectangle, not aligned with any cell, and a soft spot that counts as white."""
    mask = torch.zeros(1, height, width)
    mask[:, 13:61, 5:70] = 1
    mask[:, 80:, 100:] = 0.25
    return mask


def test_fidelity_scales_inside_and_outside_the_mask(model, pasd) -> None:
    """Residuals and the pixels attended to alike, as the ModelScope release does."""
    x, timesteps = noisy()
    mask = painted(8 * HEIGHT, 8 * WIDTH)
    options = {"fidelity_mask": mask, "fidelity_scale_fg": 1.5, "fidelity_scale_bg": 0.6}
    found = eps(applied(model, pasd, strength=0.9, **options), x, timesteps)
    how = {"strength": 0.9, "fidelity": (mask[None], 1.5, 0.6)}
    torch.testing.assert_close(found, by_hand(model, pasd, x, picture(), **how), **CLOSE)
    assert not torch.allclose(found, eps(applied(model, pasd, strength=0.9), x, timesteps))


def test_fidelity_scales_of_one_and_scales_without_a_mask_change_nothing(model, pasd) -> None:
    call, mask = noisy(), painted(8 * HEIGHT, 8 * WIDTH)
    expected = eps(applied(model, pasd), *call)
    assert torch.equal(eps(applied(model, pasd, fidelity_mask=mask), *call), expected)
    scales: dict[str, Any] = {"fidelity_scale_fg": 1.5, "fidelity_scale_bg": 0.6}
    assert torch.equal(eps(applied(model, pasd, **scales), *call), expected)


def test_one_fidelity_everywhere_is_a_strength(model, pasd) -> None:
    call, white = noisy(), torch.ones(1, 3, 5)
    scales: dict[str, Any] = {"fidelity_scale_fg": 0.5, "fidelity_scale_bg": 3.0}
    found = eps(applied(model, pasd, fidelity_mask=white, **scales), *call)
    assert torch.equal(found, eps(applied(model, pasd, strength=0.5), *call))


def test_the_dial_turns_the_strength(model, pasd) -> None:
    def call(**inputs: float) -> Tensor:
        return eps(applied(model, pasd, **inputs), *noisy())

    for fidelity, strength in ((0.5, 0.8), (0.0, 0.4), (0.75, 1.0), (1.0, 1.2)):
        found = call(strength=0.8, fidelity=fidelity)
        assert torch.equal(found, call(strength=strength)), fidelity
    assert not torch.equal(call(strength=0.8), call(strength=0.8, fidelity=0.6))


# Batches, guidance, clones


def test_rows_of_a_batch_equal_single_runs(model, pasd) -> None:
    x, timesteps = noisy(3)
    images = picture(3)
    rows: list[int] = []
    handle = watch(pasd.control.model, lambda _, args: rows.append(args[0].shape[0]))
    together = call_model(applied(model, pasd, images), x, timesteps, *pair())
    handle.remove()
    assert rows == [6], "conditional and unconditional rows ran apart"
    for i in range(3):
        row = slice(i, i + 1)
        single = call_model(applied(model, pasd, images[row]), x[row], timesteps[row], *pair())
        for found, expected in zip(together, single, strict=True):
            torch.testing.assert_close(found[row], expected, **CLOSE)


def watch(network: torch.nn.Module, seen: Any) -> Any:
    return network.register_forward_pre_hook(seen)


def test_a_run_of_three_pictures_equals_three_runs(host, model, pasd) -> None:
    """Whole runs from one given start (no noise of the host's own, which differs by row)."""
    start = seeded_input(5, "start", 3, 4, HEIGHT, WIDTH) * 14.6

    def run(rows: slice) -> Tensor:
        with torch.inference_mode():
            (out,) = host.nodes.common_ksampler(
                applied(model, pasd, picture(3)[rows]),
                0, 3, 4.0, "euler", "normal", *pair(), {"samples": start[rows]},
                disable_noise=True,
            )  # fmt: skip
        return out["samples"]

    together = run(slice(0, 3))
    for i in range(3):
        alone = run(slice(i, i + 1))
        # The random network lets rounding grow: 5e-3 seen, on values of about 300.
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=0.03)


def test_cfg_1_computes_only_the_positive_half(host, model, pasd) -> None:
    rows: list[int] = []
    handle = watch(pasd.control.model, lambda _, args: rows.append(args[0].shape[0]))
    found = sample(host, applied(model, pasd), *pair(), empty(2), cfg=1.0)
    other = (conditioning(text()), conditioning(text("another")))
    same = sample(host, applied(model, pasd), *other, empty(2), cfg=1.0)
    handle.remove()
    assert rows == [2, 2, 2, 2]
    assert torch.equal(found, same)


def test_image_is_encoded_once_a_run(host, model, pasd) -> None:
    shapes: list[tuple[int, ...]] = []
    handle = watch(pasd.encoder.model, lambda _, args: shapes.append(tuple(args[0].shape)))
    patched = applied(model, pasd)
    assert not shapes, "encoded before anything was sampled"
    sample(host, patched, *pair(), empty(2), steps=4)
    assert shapes == [(1, 3, 8 * HEIGHT, 8 * WIDTH)]
    sample(host, patched, *pair(), empty(), steps=2)
    handle.remove()
    assert len(shapes) == 2, "features of a run outlived it"


def test_clones_reruns_and_the_unpatched_model(host, model, pasd) -> None:
    plain = sample(host, model, *pair(), empty())
    patched = applied(model, pasd)
    expected = sample(host, patched, *pair(), empty())
    assert torch.equal(sample(host, patched.clone().clone(), *pair(), empty()), expected)
    assert torch.equal(sample(host, patched, *pair(), empty()), expected)
    assert torch.equal(sample(host, model, *pair(), empty()), plain)
    assert not torch.equal(plain, expected)


def test_interrupt_leaves_nothing_patched(host, model, pasd) -> None:
    mm = host.model_management
    plain = sample(host, model, *pair(), empty())
    patched = applied(model, pasd)
    expected = sample(host, patched, *pair(), empty())
    unet = model.model.diffusion_model

    def interrupt(*_: Any) -> None:
        mm.interrupt_current_processing(True)
        mm.throw_exception_if_processing_interrupted()

    handle = unet.output_blocks[3][0].register_forward_hook(interrupt)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            sample(host, patched, *pair(), empty())
    finally:
        handle.remove()
        mm.interrupt_current_processing(False)
    assert not any(module._forward_hooks for module in unet.modules())
    assert torch.equal(sample(host, model, *pair(), empty()), plain)
    assert torch.equal(sample(host, patched, *pair(), empty()), expected)


# Company


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_chains_with_a_core_controlnet(host, model, pasd, strength) -> None:
    """Skips get the sum; the pixels attended to are PASD's alone."""
    other = core_controlnet(sd15().unet_config(), seed=21)
    hint = picture(name="o")
    (positive,) = host.nodes.ControlNetApplyAdvanced().apply_controlnet(
        conditioning(text()), conditioning(text()), other, hint, 0.8, 0.0, 1.0
    )[:1]
    x, timesteps = noisy()
    (found,) = call_model(applied(model, pasd, strength=strength), x, timesteps, positive)
    with torch.no_grad():
        theirs = other.control_model(
            x=x, hint=pixels(hint), timesteps=timesteps.float(), context=text()
        )
    theirs = {name: [0.8 * each for each in values] for name, values in theirs.items()}
    patch = Applied(pasd, pixels(picture()), strength)
    expected = reference(model, x, timesteps, text(), [patch], others=[theirs])
    torch.testing.assert_close(found, expected, **CLOSE)
    assert not torch.allclose(found, by_hand(model, pasd, x, picture(), strength=strength))


@pytest.mark.parametrize("lora_first", [True, False])
def test_a_lora_changes_the_base_under_it(host, pasd, lora_first) -> None:
    """On layers beside which PASD stands, and on an upsampler behind one."""
    base, merged = base_model(sd15()), base_model(sd15())
    attention = "output_blocks.3.1.transformer_blocks.0.attn2.to_k.weight"
    upsampler = "output_blocks.3.2.conv.weight"
    patches = {}
    for name in (upsampler, attention):
        weight = merged.model.diffusion_model.get_parameter(name)
        change = 0.3 * seeded_input(2, name, *weight.shape) * weight.std()
        patches[f"diffusion_model.{name}"] = ("diff", (change,))
        with torch.no_grad():
            weight.add_(change)

    def with_lora(each: Any) -> Any:
        each = each.clone()
        assert set(each.add_patches(patches, 1.0)) == set(patches)
        return each

    patched = applied(with_lora(base), pasd) if lora_first else with_lora(applied(base, pasd))
    call = noisy()
    torch.testing.assert_close(eps(patched, *call), eps(applied(merged, pasd), *call), **CLOSE)
    assert not torch.allclose(eps(applied(base, pasd), *call), eps(applied(merged, pasd), *call))


@pytest.mark.parametrize(
    "kinds",
    [
        ("pasd", "pasd"),
        ("pasd_light", "pasd_light"),
        ("pasd", "pasd_light"),
        ("pasd_light", "pasd"),
    ],
    ids=" and ".join,
)
def test_two_patches_on_one_model(model, both, kinds) -> None:
    """With other pictures and strengths; each attends to its own residuals only."""
    x, timesteps = noisy()
    patched, patches = model, []
    for kind, strength, name in zip(kinds, (1.0, 0.6), "pq", strict=True):
        image = picture(name=name)
        patched = applied(patched, both[kind], image, strength=strength)
        patches.append(Applied(both[kind], pixels(image), strength))
    expected = reference(model, x, timesteps, text(), patches)
    torch.testing.assert_close(eps(patched, x, timesteps), expected, **CLOSE)


def test_replaced_text_attention_as_of_ipadapter(host, pasd) -> None:
    """Pixel attention is added to what a replacement gives. Zeros stand in for it: the same as
    values of zero in that block of the UNet."""
    base, changed = base_model(sd15()), base_model(sd15())
    unet = changed.model.diffusion_model
    number = 3  # [ResBlock, SpatialTransformer, Upsample]
    with torch.no_grad():
        unet.output_blocks[number][1].transformer_blocks[0].attn2.to_v.weight.zero_()
    patched = applied(base, pasd)
    patched.set_model_attn2_replace(lambda q, k, v, extra: q * 0, "output", number)
    call = noisy()
    found = eps(patched, *call)
    torch.testing.assert_close(found, eps(applied(changed, pasd), *call), **CLOSE)
    assert not torch.allclose(found, eps(applied(base, pasd), *call))


@pytest.mark.parametrize(
    ("place", "set_by"),
    [("middle_patch", "node"), ("attn2_output_patch", "node"), ("middle_patch", "prompt")],
)
def test_light_attends_with_the_stream_that_later_patches_leave(model, both, place, set_by) -> None:
    """A prompt sets one too: GLIGEN, whose boxes change the stream before text attention."""
    from comfy.model_patcher import ModelPatcher

    def change(x: Tensor, extra: Any) -> Tensor:
        return x + x.roll(1, -1)

    x, timesteps = noisy()
    before, after = model.clone(), applied(model, both["pasd_light"])
    before.set_model_patch(change, place)
    expected = eps(applied(before, both["pasd_light"]), x, timesteps)
    boxes = {}
    if set_by == "node":
        after.set_model_patch(change, place)
    else:
        network = torch.nn.Module()
        network.set_position = lambda shape, params, device: change
        cpu = torch.device("cpu")
        boxes["gligen"] = ("position", ModelPatcher(network, cpu, cpu), [])
    found = call_model(after, x, timesteps, conditioning(text(), **boxes))[0]
    assert torch.equal(found, expected)
    assert (found - eps(before, x, timesteps)).abs().mean() > 0.01, "PASD changes nothing"


@pytest.mark.parametrize("after_skip", [True, False])
def test_masks_follow_a_stream_that_deep_shrink_makes_smaller(model, pasd, after_skip) -> None:
    from comfy_extras.nodes_model_downscale import PatchModelAddDownscale as Node

    node = getattr(Node, "execute", None) or Node().patch
    patched = node(model, 2, 1.6, 0.0, 1.0, after_skip, "bicubic", "bicubic")
    shrunk = getattr(patched, "result", patched)[0]
    whole = eps(applied(shrunk, pasd), *noisy())
    assert (whole - eps(shrunk, *noisy())).abs().mean() > 0.01, "PASD changes nothing"
    for value, expected in ((1.0, whole), (0.0, eps(shrunk, *noisy()))):
        mask = torch.full((1, 7, 5), value)
        assert torch.equal(eps(applied(shrunk, pasd, mask=mask), *noisy()), expected)
    half = torch.arange(WIDTH).expand(1, HEIGHT, WIDTH) / WIDTH
    found = eps(applied(shrunk, pasd, mask=half), *noisy())
    assert found.isfinite().all() and not torch.allclose(found, whole)


def test_attention_override_reaches_the_added_attention(model, pasd) -> None:
    """Sage attention and the like come as such an override."""
    calls: list[int] = []

    def override(attention: Any, *args: Any, **kwargs: Any) -> Tensor:
        calls.append(1)
        return attention(*args, **kwargs)

    counts = []
    for each in (model, applied(model, pasd)):
        each = each.clone()
        each.model_options["transformer_options"]["optimized_attention_override"] = override
        calls.clear()
        eps(each, *noisy())
        counts.append(len(calls))
    plain, patched = counts
    in_control = 2 * (1 + 2)  # two attentions in each of its two blocks with text and the middle
    added = {"pasd": 2 * 6, "pasd_light": 4}[pasd.variant]
    assert patched - plain == added + in_control


@pytest.mark.parametrize("tiler_first", [True, False])
def test_tiles_see_their_part_of_picture_and_masks(model, pasd, tiler_first) -> None:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    mask, whites = torch.rand(1, HEIGHT, WIDTH), painted(8 * HEIGHT, 8 * WIDTH)
    scales: dict[str, Any] = {"fidelity_scale_fg": 1.5, "fidelity_scale_bg": 0.6}

    def tiled(each: Any) -> Any:
        return apply_tiles(each, TilePlan(8, 3, weighting="uniform"))

    def with_pasd(each: Any, y: slice, x: slice) -> Any:
        fine = [slice(8 * (s.start or 0), 8 * s.stop) for s in (y, x)]
        image, inside = picture()[:, fine[0], fine[1]], whites[:, fine[0], fine[1]]
        return applied(each, pasd, image, mask=mask[:, y, x], fidelity_mask=inside, **scales)

    everything = slice(0, HEIGHT), slice(0, WIDTH)
    patched = with_pasd(tiled(model), *everything)
    if not tiler_first:
        patched = tiled(with_pasd(model, *everything))
    x, timesteps = noisy()
    found = eps(patched, x, timesteps)
    # Corners that only one tile covers: rows start at 0 and 4, columns at 0, 5 and 8.
    for y, column, own in (
        (slice(0, 8), slice(0, 8), (slice(0, 4), slice(0, 5))),
        (slice(4, 12), slice(8, 16), (slice(8, 12), slice(13, 16))),
    ):
        expected = eps(with_pasd(model, y, column), x[..., y, column], timesteps)
        at = tuple(
            slice(s.start - o.start, s.stop - o.start)
            for s, o in zip(own, (y, column), strict=True)
        )
        torch.testing.assert_close(found[..., own[0], own[1]], expected[..., at[0], at[1]], **CLOSE)


# Compiled


@pytest.fixture
def pytorch_attention(host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The normal one on a GPU; that of the CPU breaks graphs, and would hide what can go wrong."""
    from comfy.ldm.modules import attention

    monkeypatch.setattr(attention, "optimized_attention", attention.attention_pytorch)
    torch._dynamo.reset()


@pytest.mark.slow  # a minute
def test_compiled_unet_agrees_plain_patched_plain(host, model, pasd, pytorch_attention) -> None:
    """A graph compiled without PASD must not be taken for one with it: there is control in both,
    and outside its part of the run the patched model has the same wrappers, so only a key of our
    own tells them apart. Nor may one network's graph be taken for another's."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    other = core_controlnet(sd15().unet_config(), seed=21)
    (positive,) = host.nodes.ControlNetApplyAdvanced().apply_controlnet(
        conditioning(text()), conditioning(text()), other, picture(name="o"), 0.8, 0.0, 1.0
    )[:1]
    compiled = model.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    second = networks(sd15(), pasd.variant, seed=77)
    early: dict[str, Any] = {"end_percent": 0.5}
    half, half_compiled = applied(model, pasd, **early), applied(compiled, pasd, **early)
    x, _ = noisy()
    for found, expected, timestep in (
        (half_compiled, half, 100),
        (half_compiled, half, 900),
        (compiled, model, 900),
        (applied(compiled, second, **early), applied(model, second, **early), 900),
        (half_compiled, half, 100),
    ):
        steps = torch.tensor([timestep])
        one, same = (call_model(each, x, steps, positive)[0] for each in (found, expected))
        torch.testing.assert_close(one, same, **CLOSE)


# Preview


@pytest.mark.parametrize("rrdb", [False, True])
def test_pyramid_shows_the_heads_at_three_sizes(host, rrdb) -> None:
    from restoration.nodes.pasd import PASDPyramidPreview

    pasd = networks(sd15(), rrdb=rrdb)
    image = torch.sigmoid(seeded_input(9, "odd", 2, 45, 61, 4))
    shown = PASDPyramidPreview.execute(pasd, image).result
    assert [tuple(each.shape) for each in shown] == [(2, 23, 31, 3), (2, 12, 16, 3), (2, 6, 8, 3)]
    encoder = pasd.encoder.model
    with torch.no_grad():
        whole = encoded(encoder, pixels(image[..., :3]))
        torch.testing.assert_close(encoder(pixels(image[..., :3])), whole, **CLOSE)
        for each, rgb in zip(shown, encoder.rgbs(pixels(image[..., :3])), strict=True):
            expected = (rgb / 2 + 0.5).clamp(0, 1).movedim(1, -1)
            torch.testing.assert_close(each, expected, **CLOSE)


def test_preview_tries_again_when_memory_runs_out(host, caplog) -> None:
    from restoration.nodes.pasd import PASDPyramidPreview

    pasd, left = networks(sd15()), [True]
    expected = PASDPyramidPreview.execute(pasd, picture()).result

    def fail(*_: Any) -> None:
        if left and left.pop():
            raise host.model_management.OOM_EXCEPTION("the card is full")

    convolution = next(m for m in pasd.encoder.model.modules() if isinstance(m, torch.nn.Conv2d))
    convolution.register_forward_pre_hook(fail)
    for again, before in zip(
        PASDPyramidPreview.execute(pasd, picture()).result, expected, strict=True
    ):
        assert torch.equal(again, before)
    assert "PASD Pyramid Preview: out of memory; trying again" in caplog.text


def test_no_heads_no_preview(model) -> None:
    from restoration.nodes.pasd import PASDPyramidPreview

    pasd = networks(sd15(), heads=False)
    with pytest.raises(ValueError, match=r"has no toRGB heads.*restoration works without"):
        PASDPyramidPreview.execute(pasd, picture())
    assert torch.equal(
        eps(applied(model, pasd), *noisy()), eps(applied(model, networks(sd15())), *noisy())
    )


def test_four_steps_of_lcm_start_from_the_photo_at_its_own_timesteps(host, model, pasd) -> None:
    """As docs/pasd.md sets it, but for the LoRA: sampling `lcm`, its sampler, `simple`, cfg 1."""
    import comfy.sample
    import comfy.samplers
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    from restoration.nodes.sampling import LREmbeddedNoise

    (lcm,) = ModelSamplingDiscrete().patch(model, "lcm", False)
    patched = applied(lcm, pasd)
    sampling = patched.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 4)
    assert [round(float(sampling.timestep(level))) for level in sigmas[:-1]] == [999, 759, 499, 259]
    calls: list[int] = []
    handle = watch(pasd.control.model, lambda _, args: calls.append(args[0].shape[0]))

    def run(photo: Tensor, begin: str) -> Tensor:
        latent = {"samples": photo}
        noise, _ = LREmbeddedNoise.execute(patched, latent, 7, sigmas, begin).result
        with torch.inference_mode():
            return comfy.sample.sample_custom(
                patched,
                noise.generate_noise(latent),
                1.0,
                comfy.samplers.sampler_object("lcm"),
                sigmas,
                *pair(),
                latent["samples"],
                seed=7,
            )

    def changed_by_the_photo(begin: str) -> float:
        photo = seeded_input(2, "photo", 1, 4, HEIGHT, WIDTH)
        found, other = run(photo, begin), run(-photo, begin)
        assert torch.isfinite(found).all()
        return float((found - other).abs().max() / found.abs().max())

    assert changed_by_the_photo("pasd") > 10 * changed_by_the_photo("noise")
    handle.remove()
    assert calls == [1] * 4 * 4
