"""The mechanism of PASD and SeeSR with a small branch of its own: a real control encoder, and a
real transformer after layers of the UNet. What the methods add has its own tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

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

HEIGHT, WIDTH = 12, 16
SITES = {"input_blocks.1": 32, "middle_block.1": 64, "output_blocks.1": 64, "output_blocks.3": 32}
"""Sites and their channels; output_blocks.1 ends in an upsampler."""
TEXT = SMALL["context_dim"]


@pytest.fixture(scope="module")
def host(comfy):
    return comfy


@pytest.fixture(scope="module")
def model(host) -> Any:
    return unet_model(ldm_unet_config(SMALL))


@pytest.fixture(scope="module")
def networks(host) -> SimpleNamespace:
    import comfy.model_patcher
    import comfy.ops
    from comfy.ldm.modules.attention import SpatialTransformer

    from restoration.common.hint_encoder import HintEncoder
    from restoration.host.control_encoder import ControlEncoder

    ops = comfy.ops.disable_weight_init
    parts = {
        "encoder": HintEncoder(out_channels=32, operations=ops),
        "control": ControlEncoder(ldm_unet_config(SMALL), ops, dtype=torch.float32),
        **{
            site.replace(".", "_"): SpatialTransformer(
                channels, 2, channels // 2, context_dim=TEXT, operations=ops
            )
            for site, channels in SITES.items()
        },
    }
    network = torch.nn.ModuleDict(parts).eval()
    network.load_state_dict(seeded_weights(network, 31))
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(network, load_device=cpu, offload_device=cpu)
    return SimpleNamespace(network=network, patcher=patcher)


@pytest.fixture
def branch(host, networks) -> Any:
    return make_branch(networks)


def make_branch(networks: SimpleNamespace, strength: float = 1.0) -> Any:
    from restoration.host.branch import BranchCall, BranchResult, ImageBranch
    from restoration.host.extra_blocks import inner_options

    class Small(ImageBranch):
        patchers = (networks.patcher,)
        residuals_per_cell = networks.network["control"].residuals_per_cell()

        def __init__(self) -> None:
            self.calls: list[BranchCall] = []
            self.embedded: list[tuple[int, ...]] = []

        def embed(self, pixels: Tensor) -> Tensor:
            self.embedded.append(tuple(pixels.shape))
            return networks.network["encoder"](pixels)

        def run(self, call: BranchCall) -> BranchResult:
            self.calls.append(call)
            residuals, middle = networks.network["control"](
                call.x, call.timesteps, call.context, call.hint, options=call.options
            )
            inside = inner_options(call.options)

            def block(site: str) -> Any:
                layer = networks.network[site.replace(".", "_")]
                return lambda h: layer(h, call.context, dict(inside))

            return BranchResult(
                [strength * r for r in residuals], strength * middle, {s: block(s) for s in SITES}
            )

    return Small()


def picture(rows: int = 1, height: int = HEIGHT, width: int = WIDTH, name: str = "p") -> Tensor:
    return torch.sigmoid(seeded_input(9, name, rows, 8 * height, 8 * width, 3))


def noisy(rows: int = 1, height: int = HEIGHT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    return seeded_input(5, "x", rows, 4, height, width), torch.full((rows,), 500)


def text(name: str = "good") -> Tensor:
    return seeded_input(3, name, 1, 7, TEXT)


def empty(rows: int = 1) -> Tensor:
    return torch.zeros(rows, 4, HEIGHT, WIDTH)


def applied(model: Any, branch: Any, image: Tensor | None = None, **options: Any) -> Any:
    from restoration.host.branch import apply_branch

    options = {"start_percent": 0.0, "end_percent": 1.0, **options}
    return apply_branch(model, branch, picture() if image is None else image, **options)[0]


def by_hand(
    model: Any,
    networks: SimpleNamespace,
    x: Tensor,
    timesteps: Tensor,
    pixels: Tensor,
    mask: Tensor | None = None,
):
    """eps of the patched UNet, walking the host's blocks one by one. mask: H W."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import Upsample, timestep_embedding

    def share(h: Tensor) -> Tensor:
        """The mask of the patch, at the resolution of h."""
        if mask is None:
            return torch.ones(())
        latent = interpolate(mask[None, None], x.shape[-2:], mode="area")
        return interpolate(latent, h.shape[-2:], mode="area")

    unet, net, context = model.model.diffusion_model, networks.network, text()
    with torch.no_grad():
        residuals, middle = net["control"](
            x, timesteps.float(), context, net["encoder"](pixels.movedim(-1, 1))
        )
        emb = unet.time_embed(timestep_embedding(timesteps.float(), unet.model_channels))
        h, skips = x, []

        def layers(name: str, block: Any, h: Tensor, shape: Any = None) -> Tensor:
            kept = [layer for layer in block if not isinstance(layer, Upsample)]
            for layer in block:
                if isinstance(layer, Upsample):
                    h = layer(h, output_shape=shape)
                elif type(layer).__name__ == "ResBlock":
                    h = layer(h, emb)
                elif type(layer).__name__ == "SpatialTransformer":
                    h = layer(h, context)
                else:
                    h = layer(h)
                extra = name if layer is kept[-1] else None
                if name == "middle_block":
                    extra = "middle_block.1" if layer is block[1] else None
                if extra in SITES:
                    h = h + share(h) * (net[extra.replace(".", "_")](h, context) - h)
            return h

        for number, block in enumerate(unet.input_blocks):
            h = layers(f"input_blocks.{number}", block, h)
            skips.append(h)
        h = layers("middle_block", unet.middle_block, h) + share(middle) * middle
        for number, block in enumerate(unet.output_blocks):
            residual = residuals.pop()
            skip = skips.pop() + share(residual) * residual
            shape = skips[-1].shape if skips else None
            h = layers(f"output_blocks.{number}", block, torch.cat([h, skip], 1), shape)
        return unet.out(h)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (11, 13)], ids=str)
def test_one_call_equals_the_blocks_walked_by_hand(model, networks, branch, size) -> None:
    x, timesteps = noisy(2, *size)
    image = picture(2, *size)
    (found,) = call_model(applied(model, branch, image), x, timesteps, conditioning(text()))
    expected = torch.cat(
        [by_hand(model, networks, x[i : i + 1], timesteps[:1], image[i : i + 1]) for i in range(2)]
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)
    (plain,) = call_model(model, x, timesteps, conditioning(text()))
    assert (found - plain).abs().mean() > 0.05


def test_empty_range_is_the_plain_model_bit_for_bit(host, model, branch) -> None:
    pair = conditioning(text()), conditioning(text("bad"))
    expected = sample(host, model, *pair, empty())
    for start, end in ((0.0, 0.0), (1.0, 1.0), (0.7, 0.3)):
        patched = applied(model, branch, start_percent=start, end_percent=end)
        assert torch.equal(sample(host, patched, *pair, empty()), expected)
    assert not branch.calls


def test_range_is_that_part_of_the_run(host, model, branch) -> None:
    pair = conditioning(text()), conditioning(text("bad"))
    patched = applied(model, branch, end_percent=0.5)
    sample(host, patched, *pair, empty(), steps=4)
    levels = {int(call.timesteps[0]) for call in branch.calls}
    assert levels
    assert all(level >= 500 for level in levels), levels


@pytest.mark.parametrize(
    "size", [(1, 1), (7, 5), (HEIGHT, WIDTH), (8 * HEIGHT, 8 * WIDTH)], ids=str
)
def test_white_mask_is_no_mask_and_black_mask_is_the_plain_model(model, branch, size) -> None:
    call = (*noisy(), conditioning(text()))
    for mask, other in (
        (torch.ones(1, *size), applied(model, branch)),
        (torch.zeros(1, *size), model),
    ):
        (found,) = call_model(applied(model, branch, mask=mask), *call)
        (expected,) = call_model(other, *call)
        assert torch.equal(found, expected)
    assert len(branch.calls) == 2, "a black mask costs a run of the branch"


@pytest.mark.parametrize("size", [(3, 3), (HEIGHT, WIDTH), (50, 70)], ids=str)
def test_a_mask_scales_residuals_and_blocks_at_every_resolution(
    model, networks, branch, size
) -> None:
    mask = torch.rand(1, *size)
    x, timesteps = noisy()
    patched = applied(model, branch, mask=mask)
    (found,) = call_model(patched, x, timesteps, conditioning(text()))
    expected = by_hand(model, networks, x, timesteps, picture(), mask[0])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_residuals_are_matched_from_the_end_of_the_hosts_list() -> None:
    from restoration.host.branch import merged

    value = seeded_input(1, "v", 1, 3, 2, 2)
    total = merged({"output": [None, value]}, [value, value, value], value)
    assert [int(bool((v == 2 * value).all())) for v in total["output"]] == [0, 0, 1]


def test_encoder_runs_once_a_picture_and_only_while_sampling(host, model, branch) -> None:
    pair = conditioning(text()), conditioning(text("bad"))
    patched = applied(model, branch)
    assert not branch.embedded
    sample(host, patched, *pair, empty(), steps=4)
    assert branch.embedded == [(1, 3, 8 * HEIGHT, 8 * WIDTH)]
    sample(host, patched, *pair, empty(), steps=2)
    assert len(branch.embedded) == 2, "features of a run outlived it"


def test_rows_of_a_batch_equal_single_runs(model, branch) -> None:
    x, timesteps = noisy(3)
    images = picture(3)
    pair = conditioning(text()), conditioning(text("bad"))
    together = call_model(applied(model, branch, images), x, timesteps, *pair)
    for i in range(3):
        row = slice(i, i + 1)
        single = call_model(applied(model, branch, images[row]), x[row], timesteps[row], *pair)
        for found, expected in zip(together, single, strict=True):
            torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=2e-5)
    assert branch.calls[0].x.shape[0] == 6, "conditional and unconditional rows ran apart"


def test_pictures_are_shared_out_as_the_host_repeats_latents(model, branch) -> None:
    x, timesteps = noisy(4)
    call_model(
        applied(model, branch, picture(2)), x, timesteps, conditioning(text()), conditioning(text())
    )
    hint = branch.calls[0].hint
    assert all(torch.equal(hint[i], hint[i % 2]) for i in range(8))
    assert not torch.equal(hint[0], hint[1])
    with pytest.raises(ValueError, match="`image` has 3 images, but there are 4"):
        call_model(applied(model, branch, picture(3)), x, timesteps, conditioning(text()))


def test_area_sees_its_part_of_the_picture(model, branch) -> None:
    x, timesteps = noisy()
    area = conditioning(text(), area=(8, 6, 2, 4), strength=1.0)
    (found,) = call_model(applied(model, branch), x, timesteps, area)
    part = picture()[:, 16:80, 32:80]
    (expected,) = call_model(
        applied(model, branch, part), x[..., 2:10, 4:10], timesteps, conditioning(text())
    )
    torch.testing.assert_close(found[..., 2:10, 4:10], expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("tile", [0, 12])
def test_areas_of_one_size_see_each_its_own_part_of_the_picture(model, branch, tile) -> None:
    """Also in one tile: what was made of a part is kept for the run, by its place."""
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    x, timesteps = noisy()
    corners = (0, 6)
    areas = [conditioning(text(), area=(8, 6, 2, left), strength=1.0)[0] for left in corners]
    patched = applied(model, branch)
    if tile:
        patched = apply_tiles(patched, TilePlan(tile, 0, weighting="uniform"))
    (found,) = call_model(patched, x, timesteps, areas)
    for left in corners:
        part = picture()[:, 16:80, 8 * left : 8 * (left + 6)]
        window = (..., slice(2, 10), slice(left, left + 6))
        (expected,) = call_model(
            applied(model, branch, part), x[window], timesteps, conditioning(text())
        )
        # From column 4 on there is a second tile, which sees less of the first area.
        torch.testing.assert_close(found[window][..., :4], expected[..., :4], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("tiler_first", [True, False])
def test_tiles_see_their_part_of_the_picture_in_any_order_of_nodes(
    model, branch, tiler_first
) -> None:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    def tiled(patched: Any) -> Any:
        return apply_tiles(patched, TilePlan(8, 3, weighting="uniform"))

    patched = applied(tiled(model), branch) if tiler_first else tiled(applied(model, branch))
    x, timesteps = noisy()
    area = conditioning(text(), area=(12, 8, 0, 8), strength=1.0)
    (found,) = call_model(patched, x, timesteps, conditioning(text()))
    part = applied(model, branch, picture()[:, :64, :64])
    (expected,) = call_model(part, x[..., :8, :8], timesteps, conditioning(text()))
    torch.testing.assert_close(found[..., :4, :5], expected[..., :4, :5], rtol=1e-4, atol=2e-5)
    (found,) = call_model(patched, x, timesteps, area)
    part = applied(model, branch, picture()[:, :64, 64:])
    (expected,) = call_model(part, x[..., :8, 8:], timesteps, conditioning(text()))
    torch.testing.assert_close(found[..., :4, 13:], expected[..., :4, 5:], rtol=1e-4, atol=2e-5)


def test_a_run_embeds_every_tile_once(host, model, branch) -> None:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    patched = apply_tiles(applied(model, branch), TilePlan(8, 0, weighting="uniform"))
    sample(host, patched, conditioning(text()), conditioning(text("bad")), empty(), steps=3)
    assert branch.embedded == [(1, 3, 64, 64)] * 4


def test_wrong_size_gets_a_sentence(host, model, branch) -> None:
    patched = applied(model, branch, picture(height=16))
    with pytest.raises(ValueError, match=r"latent of 16x16 .* works on 16x12\. .*128x96 pixels"):
        call_model(patched, *noisy(), conditioning(text()))


def test_picture_is_cut_as_the_vae_cuts_it(model, branch) -> None:
    """Up to seven pixels, from both sides."""
    large = picture(height=HEIGHT + 1, width=WIDTH + 1)
    wide = large[:, : 8 * HEIGHT + 5, : 8 * WIDTH + 3]
    cut = wide[:, 2 : 2 + 8 * HEIGHT, 1 : 1 + 8 * WIDTH]
    call = (*noisy(), conditioning(text()))
    assert torch.equal(
        call_model(applied(model, branch, wide), *call)[0],
        call_model(applied(model, branch, cut), *call)[0],
    )


@pytest.mark.parametrize("ours_first", [True, False])
def test_residuals_join_those_of_a_core_controlnet(host, model, branch, ours_first) -> None:
    """The UNet gets the sum; the branch never sees the other's residuals, nor its lists change."""
    other = core_controlnet(ldm_unet_config(SMALL), seed=21)
    (node,) = host.nodes.ControlNetApplyAdvanced().apply_controlnet(
        conditioning(text()), conditioning(text()), other, picture(name="o"), 0.8, 0.0, 1.0
    )[:1]
    x, timesteps = noisy()
    seen: list[dict] = []
    patched = applied(model, branch)

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        seen.append({k: list(v) for k, v in args[4].items()})
        return executor(*args, **kwargs)

    from comfy.patcher_extension import WrappersMP

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    call_model(patched, x, timesteps, node)
    with torch.no_grad():
        theirs = other.control_model(
            x=x, hint=picture(name="o").movedim(-1, 1), timesteps=timesteps.float(), context=text()
        )
        alone = make_branch_residuals(branch)
    for mine, foreign, total in zip(alone, theirs["output"], seen[0]["output"], strict=True):
        torch.testing.assert_close(total, mine + 0.8 * foreign, rtol=1e-4, atol=2e-5)


def make_branch_residuals(branch: Any) -> list[Tensor]:
    """What the branch gives for its last call."""
    return list(branch.run(branch.calls[-1]).residuals)


def test_two_branches_on_one_model(model, networks) -> None:
    """Each acts: the second's blocks run after the first's."""
    first, second = make_branch(networks), make_branch(networks, 0.5)
    call = (*noisy(), conditioning(text()))
    both = call_model(applied(applied(model, first), second, picture(name="q")), *call)[0]
    assert len(first.calls) == len(second.calls) == 1
    assert not torch.allclose(both, call_model(applied(model, first), *call)[0])
    assert not torch.allclose(both, call_model(applied(model, second), *call)[0])


def test_clones_reruns_and_the_unpatched_model(host, model, branch) -> None:
    pair = conditioning(text()), conditioning(text("bad"))
    plain = sample(host, model, *pair, empty())
    patched = applied(model, branch)
    expected = sample(host, patched, *pair, empty())
    assert torch.equal(sample(host, patched.clone().clone(), *pair, empty()), expected)
    assert torch.equal(sample(host, patched, *pair, empty()), expected)
    assert torch.equal(sample(host, model, *pair, empty()), plain)
    assert not torch.equal(plain, expected)


def test_interrupt_leaves_no_hook_and_no_features(host, model, branch) -> None:
    mm = host.model_management
    pair = conditioning(text()), conditioning(text("bad"))
    plain = sample(host, model, *pair, empty())
    patched = applied(model, branch)
    expected = sample(host, patched, *pair, empty())
    unet = model.model.diffusion_model
    layer = unet.output_blocks[3][0]

    def interrupt(*_: Any) -> None:
        mm.interrupt_current_processing(True)
        mm.throw_exception_if_processing_interrupted()

    handle = layer.register_forward_hook(interrupt)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            sample(host, patched, *pair, empty())
    finally:
        handle.remove()
        mm.interrupt_current_processing(False)
    assert not any(module._forward_hooks for module in unet.modules())
    (forget,) = next(iter(patched.callbacks["on_cleanup"].values()))
    assert not forget.__self__._embedded
    assert torch.equal(sample(host, model, *pair, empty()), plain)
    assert torch.equal(sample(host, patched, *pair, empty()), expected)


def test_the_branchs_work_is_announced(host, model, branch) -> None:
    from comfy.patcher_extension import WrappersMP

    asked: list[Any] = []

    def spy(executor: Any, model: Any, shape: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(list(shape))
        return executor(model, shape, *args, **kwargs)

    patched = applied(model, branch)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "spy", spy)
    sample(host, patched, conditioning(text()), conditioning(text("bad")), empty(2))
    rows, *rest = asked[0]
    assert rest == [4, HEIGHT, WIDTH]
    per_row = model.model.memory_required([2, 4, HEIGHT, WIDTH])
    values = 2 * 2 * HEIGHT * WIDTH * branch.residuals_per_cell
    assert (rows - 2) * per_row >= 4 * values


def test_attention_patches_of_other_nodes_do_not_fire_inside(model, branch) -> None:
    """They are chosen by block, and an extra block is none of them."""
    patched = applied(model, branch)
    calls: list[Any] = []

    def attn1(n: Tensor, context: Tensor, value: Tensor, extra: dict) -> tuple:
        calls.append(extra["block"])
        return n, context, value

    patched.set_model_attn1_patch(attn1)
    call_model(patched, *noisy(), conditioning(text()))
    plain = model.clone()
    plain.set_model_attn1_patch(attn1)
    count = len(calls)
    call_model(plain, *noisy(), conditioning(text()))
    assert len(calls) == 2 * count


def test_hint_encoder_reads_its_own_layout(host) -> None:
    from restoration.common.hint_encoder import HintEncoder, hint_encoder_config

    for options in ({"rrdb": True}, {"heads": True}, {"widths": (16, 24, 40), "out_channels": 8}):
        encoder = HintEncoder(**options)
        config = hint_encoder_config(encoder.state_dict())
        HintEncoder(**config).load_state_dict(encoder.state_dict())
        expected = {"rrdb": False, "heads": False, **options}
        assert {key: config[key] for key in expected} == expected
    pixels = picture()[..., :64, :64, :].movedim(-1, 1)
    assert HintEncoder()(pixels).shape == (1, 320, 8, 8)
    heads = HintEncoder(heads=True)
    assert [tuple(rgb.shape[1:]) for rgb in heads.rgbs(pixels)] == [
        (3, 32, 32),
        (3, 16, 16),
        (3, 8, 8),
    ]
