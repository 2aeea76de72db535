"""What all methods share: colour fixes, tile weights, sizes, and the stage-1 networks."""

from __future__ import annotations

import math

import torch
from spandrel import ImageModelDescriptor, ModelLoader
from torch import Tensor

from restoration.common.color import adain, mean_std, wavelet_color_fix, wavelet_decomposition
from restoration.common.resample import round_up
from restoration.common.restorer import unclamped
from restoration.common.sizing import at_least, scaled_size
from restoration.common.tiling import plan_tiles, tile_weights
from restoration.tests.golden.suite import GoldenCase, golden


@golden("diffbir", "wavelet and AdaIN colour fix")
@golden("pasd", "colour correction")
def color_fix(case: GoldenCase, get) -> None:
    content, style = case.tensors["content"], case.tensors["style"]
    high, low = wavelet_decomposition(content, case.config["levels"])
    mean, std = mean_std(content, case.config.get("eps", 1e-5))
    found = {
        "high": high,
        "low": low,
        "content_high": high,
        "content_low": low,
        "content_mean": mean,
        "content_std": std,
        "wavelet": wavelet_color_fix(content, style, case.config["levels"]),
        "adain": adain(content, style, case.config.get("eps", 1e-5)),
    }
    case.check_all({name: found[name] for name in found if name in case.data["outputs"]})


@golden("seesr", "colour fix")
def seesr_color_fix(case: GoldenCase, get) -> None:
    levels, eps = case.config["levels"], case.config["eps"]

    def both(result: Tensor, source: Tensor) -> dict[str, Tensor]:
        return {
            "wavelet": wavelet_color_fix(result, source, levels),
            "adain": adain(result, source, eps),
        }

    def pixels(name: str) -> Tensor:
        return case.tensors[name].movedim(-1, 0)[None].float() / 255

    exact = both(case.tensors["result"], case.tensors["source"])
    eight_bit = {
        f"{name}_uint8": (image.clamp(0, 1) * 255).to(torch.uint8)[0].movedim(0, -1)
        for name, image in both(pixels("result_uint8"), pixels("source_uint8")).items()
    }
    case.check_all(exact | eight_bit)


@golden("pasd", "latent tile weights")
def author_tile_weights(case: GoldenCase, get) -> None:
    case.check_all(
        {f"weights_{size}": tile_weights(size, size, "authors") for size in case.config["sizes"]}
    )


@golden("diffbir", "sizes through the pipeline")
def pipeline_sizes(case: GoldenCase, get) -> None:
    """DiffBIR's sizes from the functions that the nodes use, in the order of the graph."""
    for row in case.data["rows"]:
        assert diffbir_sizes(row) == {name: row[name] for name in diffbir_sizes(row)}, row
    for row in case.data["v1_rows"]:
        size = row["input_wh"][::-1]
        scaled = scaled_size(size, row["sr_scale"], math.ceil)
        enlarged = at_least(scaled, 512, math.ceil)
        assert list(scaled[::-1]) == row["scaled_wh"] == row["output_wh"], row
        assert list(enlarged[::-1]) == row["resized_wh"], row
        assert [round_up(side, 64) for side in enlarged] == row["padded_hw"], row


def diffbir_sizes(row: dict) -> dict[str, object]:
    """One row of the table: (height, width) except where the name says wh."""
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
    return {
        "loaded_wh": list(loaded[::-1]),
        "cleaner_input_hw": [tile.height, tile.width],
        "condition_hw": list(enlarged),
        "vae_input_hw": padded,
        "unet_latent_hw": latent
        if row["cldm_tiled_requested"]
        else [round_up(side, 8) for side in latent],
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
    if case.data["buffers"]:
        side = case.config["img_size"] // case.config["patch_size"]
        weights |= swinir_buffers(case.data["buffers"], case.config["window_size"], side)
    descriptor = ModelLoader().load_from_state_dict(weights)
    assert isinstance(descriptor, ImageModelDescriptor)
    return descriptor


@golden("diffbir", "SwinIR (stage 1)", "BSRNet (RRDBNet)", "SCUNet")
def stage_1(case: GoldenCase, get) -> None:
    network = unclamped(stage_1_descriptor(case))
    with torch.no_grad():
        case.check_all({"restored": network(case.tensors["lq"])})


@golden(
    "diffbir",
    *(f"manifest swinir_{name}" for name in ("general", "face", "realesrgan", "codeformer")),
    "manifest bsrnet",
    "manifest scunet",
)
def stage_1_manifest(case: GoldenCase, get) -> None:
    """The published file's keys and shapes load strictly, through spandrel."""
    (group,) = case.manifest().values()
    weights = {
        key: torch.zeros(1, dtype=torch.long if kind == "int" else torch.float32).expand(shape)
        for key, (shape, kind) in group.items()
    }
    descriptor = ModelLoader().load_from_state_dict(weights)  # strict by itself
    learned = sum(p.numel() for p in descriptor.model.parameters())
    assert learned == case.data["parameters_total"]
