"""DiffBIR's control branch: through the host's own UNet, conditioning and tiles."""

from __future__ import annotations

import re
from typing import Any

import torch

from restoration.tests.golden.runners_foundation import recorded_tile_weights
from restoration.tests.golden.suite import GoldenCase, golden
from restoration.tools.check.hosted import control_config


def diffbir(case: GoldenCase, get, **options: Any):
    """(model, control) of a case, as the loaders give them. options: see `unet_model`."""
    get("comfy")
    from restoration.diffbir.keys import convert
    from restoration.diffbir.load import diffbir_control
    from restoration.tests.host.networks import ldm_unet_config, unet_model

    config, weights = control_config(case.config), case.state_dict()
    control = diffbir_control(convert(bare(weights), config=config), config)
    return unet_model(ldm_unet_config(case.config), weights, **options), control


def bare(weights: dict) -> dict:
    """The control network's part: its keys have no prefix in the golden cases."""
    from restoration.tests.host.networks import UNET_PREFIX

    return {key: value for key, value in weights.items() if not key.startswith(UNET_PREFIX)}


def unscaled(latent: torch.Tensor) -> torch.Tensor:
    """A latent in the model's scale as a LATENT socket carries it."""
    import comfy.latent_formats

    return comfy.latent_formats.SD15().process_out(latent)


def controlled(case: GoldenCase, control, context: torch.Tensor, **options: Any) -> list:
    """CONDITIONING with the case's condition latent applied."""
    from restoration.tests.host.networks import conditioning

    control = control.copy().set_latent_hint(unscaled(case.tensors["c_img"]), **options)
    return conditioning(context, control=control, control_apply_to_uncond=False)


@golden("diffbir", "ControlNet (IRControlNet)", needs_host=True)
def control_forward(case: GoldenCase, get) -> None:
    get("comfy")
    from restoration.diffbir.keys import convert
    from restoration.diffbir.load import diffbir_control

    config = control_config(case.config)
    network = diffbir_control(convert(case.state_dict(), config=config), config).control_model
    with torch.no_grad():
        residuals, middle = network(
            x=torch.cat([case.tensors["x"], case.tensors["c_img"]], 1),
            timesteps=case.tensors["timesteps"],
            context=case.tensors["context"],
        )
    found = enumerate([*residuals, middle])
    case.check({f"control_{i:02}": residual for i, residual in found})


@golden("diffbir", "ControlledUnetModel + ControlNet", needs_host=True)
def controlled_unet(case: GoldenCase, get) -> None:
    model, control = diffbir(case, get)
    from restoration.tests.host.networks import call_model, conditioning

    context = case.tensors["context"]
    found = {}
    for name in case.outputs:
        if name == "eps_uncontrolled":
            positive = conditioning(context)
        elif match := re.fullmatch(r"eps(?:_strength_([\d.]+))?", name):
            positive = controlled(case, control, context, strength=float(match[1] or 1))
        else:
            continue
        (found[name],) = call_model(model, case.tensors["x"], case.tensors["timesteps"], positive)
    case.check(found)


@golden("diffbir", "make_tiled_fn around ControlLDM", needs_host=True)
def tiled_control(case: GoldenCase, get) -> None:
    """The tile wrapper around the real conditioning batch: the hint is cropped by the tile."""

    model, control = diffbir(case, get)
    from restoration.common.tiling import plan_tiles
    from restoration.host.tiled_sampling import TilePlan, apply_tiles
    from restoration.tests.host.networks import call_model

    x, side = case.tensors["x"], case.config["tile_size"]
    overlap = side - case.config["tile_stride"]
    tiled = apply_tiles(model, TilePlan(side, overlap, weighting="authors"))
    positive = controlled(case, control, case.tensors["context"])
    (eps,) = call_model(tiled, x, case.tensors["timesteps"], positive)
    windows = [
        (tile.y, tile.y + tile.height, tile.x, tile.x + tile.width)
        for tile in plan_tiles(*x.shape[-2:], side, overlap)
    ]
    case.check({"eps": eps, "windows": torch.tensor(windows), **recorded_tile_weights(case)})


@golden("diffbir", "Diffusion.q_sample")
def noised_condition(case: GoldenCase, get) -> None:
    """Start from the condition, and noise augmentation, as the nodes read a model's table."""
    from restoration.common.diffusion import q_sample
    from restoration.common.schedule import (
        LAST,
        scaled_linear_alphas,
        sigmas_from,
        signal,
        zero_terminal_snr,
    )

    alphas = scaled_linear_alphas()
    tables = {"eps": sigmas_from(alphas), "v": sigmas_from(zero_terminal_snr(alphas))}

    def at(name: str) -> torch.Tensor:
        kind, _, what = name.partition("_")
        timestep = LAST if what == "start_cond" else int(what.removeprefix("noise_aug_"))
        level = signal(tables[kind].float(), timestep)
        return q_sample(case.tensors["c_img"], case.tensors["noise"], level)

    case.check({name: at(name) for name in case.outputs})


@golden(
    "diffbir",
    "manifest v1_general",
    "manifest v2",
    "manifest v2.1",
    "manifest general_full_v1",
    needs_host=True,
)
def control_manifest(case: GoldenCase, get) -> None:
    """The published file is recognised and loads strictly, full size, without weights."""
    get("comfy")
    from restoration.diffbir.keys import FULL_FILE_PREFIX, convert, matches
    from restoration.diffbir.networks import DiffBIRControlNet

    contents = case.contents()
    assert matches(contents)
    weights = convert(contents, case.data["checkpoint"])
    network = DiffBIRControlNet(device="meta")
    network.load_state_dict(weights, strict=True)
    learned = sum(parameter.numel() for parameter in network.parameters())
    control = [each for key, each in contents.items() if key.startswith(FULL_FILE_PREFIX)]
    if control:
        assert learned == sum(each.numel() for each in control)
    else:
        assert learned == case.data["parameters_total"]
