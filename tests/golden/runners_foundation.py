"""What all methods share: colour fixes, tile weights, sizes, and the stage-1 networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from spandrel import ImageModelDescriptor, ModelLoader
from torch import Tensor

from restoration.common.color import (
    WAVELET_LEVELS,
    adain,
    mean_std,
    wavelet_color_fix,
    wavelet_decomposition,
)
from restoration.common.resample import round_up
from restoration.common.sizing import at_least, scaled_size
from restoration.common.tiling import plan_tiles, tile_weights
from restoration.stage1.restorer import unclamped
from restoration.tests.golden.suite import GoldenCase, golden

Naming = Callable[[str], str]


def variants(case: GoldenCase, of: str) -> Iterator[Naming]:
    """One naming for every input called after `of`, as cases with several sizes have them:
    `content_small` is the `content` whose `wavelet` is `wavelet_small`."""
    for name in sorted(case.data["inputs"]):
        before, found, after = name.partition(of)
        if found:
            yield lambda base, ends=(before, after): base.join(ends)


@golden("diffbir", "wavelet and AdaIN colour fix")
@golden("pasd", "colour correction")
def color_fix(case: GoldenCase, get) -> None:
    levels, eps = case.config.get("levels", WAVELET_LEVELS), case.config.get("eps", 1e-5)
    for named in variants(case, "content"):
        content, style = case.tensors[named("content")], case.tensors[named("style")]
        high, low = wavelet_decomposition(content, levels)
        mean, std = mean_std(content, eps)
        found = {
            "high": high,
            "low": low,
            "content_high": high,
            "content_low": low,
            "content_mean": mean,
            "content_std": std,
            "wavelet": wavelet_color_fix(content, style, levels),
            "adain": adain(content, style, eps),
        }
        case.check({named(name): value for name, value in found.items()})


@golden("seesr", "colour fix")
def seesr_color_fix(case: GoldenCase, get) -> None:
    levels, eps = case.config.get("levels", WAVELET_LEVELS), case.config.get("eps", 1e-5)

    def pixels(image: Tensor) -> Tensor:
        """Files' pixels (H W 3, or a batch of them) as B 3 H W in 0..1; others are so already."""
        if image.dtype != torch.uint8:
            return image
        return image.reshape(-1, *image.shape[-3:]).movedim(-1, 1).float() / 255

    def as_given(image: Tensor, given: Tensor) -> Tensor:
        if given.dtype != torch.uint8:
            return image
        return (image.clamp(0, 1) * 255).to(torch.uint8).movedim(1, -1).reshape(given.shape)

    for named in variants(case, "result"):
        given, source = case.tensors[named("result")], pixels(case.tensors[named("source")])
        result = pixels(given)
        fixed = {
            "wavelet": wavelet_color_fix(result, source, levels),
            "adain": adain(result, source, eps),
        }
        case.check({named(name): as_given(image, given) for name, image in fixed.items()})


@golden("pasd", "latent tile weights")
def author_tile_weights(case: GoldenCase, get) -> None:
    case.check(recorded_tile_weights(case))


def recorded_tile_weights(case: GoldenCase) -> dict[str, Tensor]:
    """The authors' weights at every size that a case has a table of."""
    return {
        name: tile_weights(*case.tensors[name].shape, "authors")
        for name in case.outputs
        if "weights" in name
    }


@golden("diffbir", "sizes through the pipeline")
def pipeline_sizes(case: GoldenCase, get) -> None:
    """DiffBIR's sizes from the functions that the nodes use, in the order of the graph."""
    for row in case.data.get("rows", ()):
        hold(row, diffbir_sizes(row), given=DIFFBIR_CHOICES)
    for row in case.data.get("v1_rows", ()):
        size = row["input_wh"][::-1]
        scaled = scaled_size(size, row["sr_scale"], math.ceil)
        enlarged = at_least(scaled, 512, math.ceil)
        found = {
            "scaled_wh": list(scaled[::-1]),
            "output_wh": list(scaled[::-1]),
            "resized_wh": list(enlarged[::-1]),
            "padded_hw": [round_up(side, 64) for side in enlarged],
        }
        hold(row, found, given={"input_wh", "sr_scale"})


def hold(row: dict, found: dict, given: set[str]) -> None:
    """Compares a row of a table: everything in it but what was given."""
    assert not (left := row.keys() - found.keys() - given), f"{sorted(left)} was not compared"
    wrong = {name: found[name] for name in row.keys() & found.keys() if row[name] != found[name]}
    assert not wrong, f"{wrong} in {row}"


DIFFBIR_CHOICES = {
    "stage1",
    "input_wh",
    "upscale",
    "cleaner_tiled",
    "cldm_tiled_requested",
    "vae_tiled_requested",
}


def diffbir_sizes(row: dict) -> dict[str, object]:
    """One row of the table: (height, width) except where the name says wh. Tiles are the authors'
    512 pixels, and 256 of the VAE."""
    size = tuple(row["input_wh"][::-1])
    output = scaled_size(size, row["upscale"])
    enlarged = at_least(output, 512)
    loaded = size if row["stage1"] == "bsrnet" else output
    match row["stage1"]:
        case "swinir":  # enlarged first, padded to 64, unless it runs in tiles
            whole = tuple(round_up(side, 64) for side in enlarged)
            cleaned = loaded if row["cleaner_tiled"] else whole
        case _:
            cleaned = loaded
    tile = plan_tiles(*cleaned, 512 if row["cleaner_tiled"] else max(cleaned), 0)[0]
    tiled = row["cldm_tiled_requested"] or row["vae_tiled_requested"]
    padded = [round_up(side, 8 if tiled else 64) for side in enlarged]
    latent = [side // 8 for side in padded]
    diffusion_tiled = row["cldm_tiled_requested"] and min(latent) >= 512 // 8
    return {
        "loaded_wh": list(loaded[::-1]),
        "cleaner_input_hw": [tile.height, tile.width],
        "condition_hw": list(enlarged),
        "vae_input_hw": padded,
        "vae_encoder_tiled": row["vae_tiled_requested"] and min(padded) >= 256,
        "cldm_tiled": diffusion_tiled,
        "unet_latent_hw": latent if diffusion_tiled else [round_up(side, 8) for side in latent],
        "decoded_latent_hw": latent,
        "output_hw": list(output),
    }


def _window_positions(window: int) -> Tensor:
    """(y, x) of every token of a window, row by row."""
    return torch.cartesian_prod(torch.arange(window), torch.arange(window))


def swinir_buffers(keys: list[str], window: int, side: int) -> dict[str, Tensor]:
    """SwinIR's computed tables, for a token grid of side x side (its img_size): which pair of
    tokens has which relative position, and which pairs a shifted window must not mix."""
    y, x = _window_positions(window).T
    relative = (y[:, None] - y + window - 1) * (2 * window - 1) + (x[:, None] - x + window - 1)
    shift = window // 2
    bounds = [slice(0, -window), slice(-window, -shift), slice(-shift, None)]
    regions = torch.zeros(side, side)
    for number, (rows, columns) in enumerate((r, c) for r in bounds for c in bounds):
        regions[rows, columns] = number
    windows = regions.unfold(0, window, window).unfold(1, window, window).reshape(-1, window**2)
    differ = windows[:, :, None] != windows[:, None, :]
    mask = torch.zeros(differ.shape).masked_fill(differ, -100.0)
    return {key: mask if key.endswith("attn_mask") else relative for key in keys}


def stage_1_descriptor(case: GoldenCase) -> ImageModelDescriptor:
    """The case's network with its seeded weights, as spandrel loads it."""
    weights = case.state_dict()
    if case.data.get("buffers"):
        side = case.config["img_size"] // case.config["patch_size"]
        weights |= swinir_buffers(case.data["buffers"], case.config["window_size"], side)
    descriptor = ModelLoader().load_from_state_dict(weights)
    assert isinstance(descriptor, ImageModelDescriptor)
    return descriptor


@golden("diffbir", "SwinIR (stage 1)", "BSRNet (RRDBNet)", "SCUNet")
def stage_1(case: GoldenCase, get) -> None:
    network = unclamped(stage_1_descriptor(case))
    with torch.no_grad():
        case.check({"restored": network(case.tensors["lq"])})


@golden(
    "diffbir",
    *(f"manifest swinir_{name}" for name in ("general", "face", "realesrgan", "codeformer")),
    "manifest bsrnet",
    "manifest scunet",
)
def stage_1_manifest(case: GoldenCase, get) -> None:
    """The published file's keys and shapes load strictly, through spandrel."""
    weights = {
        key: torch.zeros(1, dtype=each.dtype).expand(each.shape)
        for key, each in case.contents().items()
    }
    descriptor = ModelLoader().load_from_state_dict(weights)  # strict by itself
    learned = sum(p.numel() for p in descriptor.model.parameters())
    assert learned == case.data["parameters_total"]
