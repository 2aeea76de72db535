"""Core's context windows over the batch: a call has some of the frames, and each keeps its own."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.tests.host import pasd_networks, seesr_networks
from restoration.tests.host.networks import (
    SMALL,
    call_model,
    conditioning,
    core_controlnet,
    ldm_unet_config,
    sample,
    seeded_input,
    unet_model,
)

pytestmark = pytest.mark.host

FRAMES, HEIGHT, WIDTH = 6, 8, 12
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def host(comfy) -> SimpleNamespace:
    return comfy


def windowed(model: Any, dim: int = 0) -> Any:
    """Windows of three frames, one of them around the end: 4, 5, 0."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode as Node

    inputs = {
        "context_length": 3,
        "context_overlap": 1,
        "context_schedule": "looped_uniform",
        "context_stride": 1,
        "closed_loop": False,
        "fuse_method": "pyramid",
        "dim": dim,
        "freenoise": False,
    }
    known = signature(Node.execute).parameters
    return Node.execute(model, **{k: v for k, v in inputs.items() if k in known}).result[0]


def tiled(model: Any) -> Any:
    from restoration.host.tiled_sampling import TilePlan, apply_tiles

    return apply_tiles(model, TilePlan(8, 2, batch=2))


ORDERS: dict[str, Callable[[Any], Any]] = {
    "windows": windowed,
    "tiles, then windows": lambda model: windowed(tiled(model)),
    "windows, then tiles": lambda model: tiled(windowed(model)),
}


def text(name: str = "good") -> Tensor:
    return seeded_input(3, name, 1, 7, 16)


def picture(rows: int = FRAMES) -> Tensor:
    return seeded_input(9, "p", rows, 8 * HEIGHT, 8 * WIDTH, 3).sigmoid()


def mask(rows: int = FRAMES) -> Tensor:
    return seeded_input(8, "mask", rows, HEIGHT, WIDTH).sigmoid()


Patched = tuple[Any, list]
"""MODEL and a CONDITIONING."""


def with_pasd(image: Tensor, where: Tensor) -> Patched:
    from restoration.pasd.attach import apply_pasd

    config = pasd_networks.sd15()
    model, pasd = pasd_networks.base_model(config), pasd_networks.networks(config, "pasd_light")
    patched = apply_pasd(model, pasd, image, 1.0, 0.0, 1.0, where, where > 0.5, (1.0, 0.3))
    return patched, conditioning(text())


def with_seesr(image: Tensor, where: Tensor) -> Patched:
    from restoration.seesr.attach import apply_seesr

    embeds = seesr_networks.tag_embeds(len(image))
    networks, tagger = seesr_networks.networks(), seesr_networks.tiny_tagger()
    range_and_mask = (1.0, 0.0, 1.0, where)
    model = seesr_networks.base_model()
    patched = apply_seesr(model, networks, image, embeds, *range_and_mask, tagger)
    return patched, conditioning(text())


def with_diffbir(image: Tensor, where: Tensor) -> Patched:
    from restoration.diffbir.attach import apply_latent_control
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control
    from restoration.tests.golden.runners_diffbir import control_config

    config = control_config(SMALL)
    control = diffbir_control(seesr_networks.drawn(layout_of(layout(config)), 11), config)
    hint = {"samples": seeded_input(3, "hint", len(image), 4, HEIGHT, WIDTH) / 0.18215}
    cond = conditioning(text())
    cond, _ = apply_latent_control(cond, cond, control, hint, 1.0, 0.0, 1.0, where, 20)
    return unet_model(ldm_unet_config(SMALL)), cond


def layout_of(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


METHODS = {"pasd": with_pasd, "seesr": with_seesr, "diffbir": with_diffbir}


def called(model: Any, cond: list) -> Tensor:
    x = seeded_input(5, "x", FRAMES, 4, HEIGHT, WIDTH)
    (found,) = call_model(model, x, torch.full((FRAMES,), 500), cond)
    return found


@pytest.mark.parametrize(
    ("method", "rows"), [*((name, FRAMES) for name in METHODS), ("diffbir", 3)]
)
def test_every_frame_keeps_its_own_picture_and_mask_and_tags(host, method, rows) -> None:
    """The networks see every frame by itself, so that windows change nothing. Three pictures go
    around as the host repeats latents; where it does not say over how many frames, they do not."""
    model, cond = METHODS[method](picture(rows), mask(rows))
    if rows < FRAMES and not tells_the_total():
        with pytest.raises(
            ValueError, match=r"has 3 images, but Context Windows has come to image"
        ):
            called(windowed(model), cond)
        return
    whole = {False: called(model, cond), True: called(tiled(model), cond)}
    for order, patched in ORDERS.items():
        found = called(patched(model), cond)
        torch.testing.assert_close(found, whole["tiles" in order], **CLOSE, msg=order)


def tells_the_total() -> bool:
    from comfy.context_windows import IndexListContextWindow

    return "total_frames" in signature(IndexListContextWindow).parameters


def test_core_controlnets_keep_their_pictures_in_tiles_too(host) -> None:
    """Without tiles every window sees the first pictures: the host's own way with a hint."""
    model = unet_model(ldm_unet_config(SMALL))
    control = core_controlnet(ldm_unet_config(SMALL), 21)
    control.set_cond_hint(picture().movedim(-1, 1), 1.0, (0.0, 1.0))
    cond = conditioning(text(), control=control, control_apply_to_uncond=False)
    expected = called(tiled(model), cond)
    for order in ("tiles, then windows", "windows, then tiles"):
        torch.testing.assert_close(called(ORDERS[order](model), cond), expected, **CLOSE)


def test_guidance_sees_all_frames_at_once(host) -> None:
    """It acts after the windows are put together, though the host leaves the last one in place."""
    from restoration.nodes.guidance import LatentImageGuidance

    model = unet_model(ldm_unet_config(SMALL))
    target = {"samples": seeded_input(4, "target", FRAMES, 4, HEIGHT, WIDTH)}
    settings = ("latent_mse", 5.0, 1, 0.0, 1.0)
    guided = LatentImageGuidance.execute(model, *settings, target, mask=mask()).result[0]
    # 0.3.64 takes windows over the batch only where there are as many frames as noise levels.
    start, steps = torch.zeros(FRAMES, 4, HEIGHT, WIDTH), FRAMES - 1
    cond = conditioning(text())
    expected = sample(host, guided, cond, cond, start, steps=steps)
    found = sample(host, windowed(guided), cond, cond, start, steps=steps)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_windows_over_the_picture_get_a_sentence(host) -> None:
    model, cond = with_diffbir(picture(), mask())
    with pytest.raises(ValueError, match=r"set to dim 3, which cuts the picture itself.*dim to 0"):
        called(windowed(model, dim=3), cond)
