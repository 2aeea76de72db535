"""The runners themselves, with cases that differ from the public ones in what they record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.common.color import adain, wavelet_color_fix
from restoration.common.schedule import scaled_linear_alphas
from restoration.common.tiling import tile_weights
from restoration.diffbir.sampling import spaced_timesteps
from restoration.tests.golden.suite import (
    FOLDER,
    RUNNERS,
    GoldenCase,
    Runner,
    load_runners,
    read_case,
)
from restoration.tests.golden.write import record

load_runners()
PUBLIC = {
    path.relative_to(FOLDER).with_suffix("").as_posix(): path
    for path in sorted(FOLDER.glob("*/*.json"))
}
Change = Callable[[dict[str, Any], dict[str, Tensor]], None]


def varied(name: str, folder: Path, change: Change) -> GoldenCase:
    """A public case with other contents, written to a file and read again."""
    case = read_case(PUBLIC[name])
    beside = case.path.with_suffix(".safetensors").exists()
    data, tensors = dict(case.data), dict(case.tensors) if beside else {}
    data["config"] = dict(data.get("config") or {})
    data["outputs"], data["inputs"] = dict(data["outputs"]), dict(data["inputs"])
    change(data, tensors)
    inputs, outputs = data.pop("inputs"), data.pop("outputs")
    path = record(
        folder / f"{case.path.stem}.json",
        data,
        {name: (tensors[name], text) for name, text in inputs.items()},
        {name: (tensors[name], text) for name, text in outputs.items()},
    )
    return read_case(path)


def run(case: GoldenCase, request: pytest.FixtureRequest) -> None:
    RUNNERS[case.method, case.module](case, request.getfixturevalue)


def first_of_every_module() -> list[Any]:
    """The first case of every module that records several outputs."""
    found: dict[tuple[str, str], Any] = {}
    for name, path in PUBLIC.items():
        case = read_case(path)
        key, several = (case.method, case.module), len(case.data.get("outputs", ())) > 1
        if several and key not in found:
            marks = [pytest.mark.host] if RUNNERS[key].needs_host else []
            # Steps of whole UNets; stage 1 and the tagger go through the same function in a second.
            if case.method == "training" and len(case.data["parameters"]) > 500:
                marks.append(pytest.mark.slow)
            found[key] = pytest.param(name, marks=marks)
    return list(found.values())


def steps_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    """What a degradation's case says of its steps; the draws that they name are given back to the
    runner although they stand among the outputs."""
    steps = data["config"].get("steps")
    return steps if isinstance(steps, list) and isinstance(steps[0], dict) else []


@pytest.mark.parametrize("name", first_of_every_module())
def test_a_runner_compares_what_a_case_keeps_and_asks_for_no_more(name, tmp_path, request) -> None:
    """Two outputs are kept, and one of them is spoiled: it, and it alone, is named."""
    kept, spoiled = "", ""

    def fewer(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        nonlocal kept, spoiled
        fed = {each for step in steps_of(data) for each in step.values() if isinstance(each, str)}
        first, *_, kept = sorted(data["outputs"].keys() - fed)
        spoiled = "latents" if "latents" in data["outputs"] else first
        left = {kept, spoiled, *fed}
        data["outputs"] = {n: t for n, t in data["outputs"].items() if n in left}
        value = tensors[spoiled]
        # Far beyond a tolerance that goes by the recorded values too.
        by = 0.5 + float(value.abs().max()) if value.is_floating_point() else 3
        tensors[spoiled] = value + by

    case = varied(name, tmp_path, fewer)
    with pytest.raises(AssertionError) as failure:
        run(case, request)
    said = str(failure.value)
    assert f"{spoiled}: largest difference" in said and f"{kept}:" not in said, said


TWO_ROWS = [
    pytest.param("diffbir/bsrnet_tiny"),
    pytest.param("diffbir/colour_fix"),
    pytest.param("diffbir/guidance_v1_mse_latent", marks=pytest.mark.host),
    pytest.param("diffbir/sampler_ddim_eps", marks=pytest.mark.host),
    pytest.param("diffbir/spaced_trajectory_v21_rescale_cfg", marks=pytest.mark.host),
    pytest.param("diffbir/spaced_trajectory_eps_mse_guidance_repeat", marks=pytest.mark.host),
    pytest.param("diffbir/tiled_eps", marks=pytest.mark.host),
    pytest.param("pasd/encoder_rrdb"),
    pytest.param("pasd/controlnet_mask", marks=pytest.mark.host),
    pytest.param("pasd/unet_pasd_light_odd", marks=pytest.mark.host),
    pytest.param("pasd/trajectory_pasd_cfg9", marks=pytest.mark.host),
    pytest.param("seesr/controlnet", marks=pytest.mark.host),
    pytest.param("seesr/unet_145_tokens", marks=pytest.mark.host),
    pytest.param("seesr/lre_start", marks=pytest.mark.host),
    pytest.param("seesr/trajectory_turbo", marks=pytest.mark.host),
    pytest.param("seesr/tagger_ram", marks=pytest.mark.host),
    pytest.param("styleid/attention_other_size", marks=pytest.mark.host),
    pytest.param("styleid/features_eps_n4", marks=pytest.mark.host),
    pytest.param("styleid/stylise_v_n4_six_layers", marks=pytest.mark.host),
]
NOT_OF_ROWS = {"timestep", "timesteps", "sigmas", "alphas_cumprod", "windows", "weights"}


@pytest.mark.parametrize("name", TWO_ROWS)
def test_a_runner_takes_a_batch_of_two_from_the_case(name, tmp_path, request) -> None:
    """Every recorded row twice: what comes out is every row twice."""

    def twice(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for each in {*data["inputs"], *data["outputs"]} - NOT_OF_ROWS:
            value = tensors[each]
            if 1 in value.shape[:2] and each != "weights_64":
                tensors[each] = torch.cat([value, value], value.shape.index(1))
        if "tags" in data["config"]:
            data["config"]["tags"] = 2 * data["config"]["tags"]

    run(varied(name, tmp_path, twice), request)


def test_schedules_of_a_count_that_ddim_cannot_take(tmp_path, request) -> None:
    levels = scaled_linear_alphas()[spaced_timesteps(3)[::-1]].sqrt().float()

    def other(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        data["config"]["steps"] = [3]
        data["outputs"] = {"eps_3_sqrt_alphas_cumprod": "of three steps, which DDIM refuses"}
        tensors["eps_3_sqrt_alphas_cumprod"] = levels

    run(varied("diffbir/schedules", tmp_path, other), request)


def test_a_growing_guidance_that_is_no_whole_number(tmp_path, request) -> None:
    from restoration.diffbir.sampling import growing_cfg

    def other(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        data["outputs"] = {"v_5_rescaled_cfg_7.5": "guidance of every timestep"}
        tensors["v_5_rescaled_cfg_7.5"] = torch.tensor(
            [growing_cfg(7.5, t) for t in spaced_timesteps(5)[::-1]], dtype=torch.float64
        )

    run(varied("diffbir/schedules", tmp_path, other), request)


@pytest.mark.parametrize("name", ["diffbir/colour_fix", "pasd/color_fix"])
def test_several_sizes_in_one_colour_fix(name, tmp_path, request) -> None:
    def more(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        content, style = tensors["content"][..., :33, :40], tensors["style"][..., :33, :40]
        tensors |= {"content_33x40": content, "style_33x40": style}
        data["inputs"] |= {"content_33x40": "smaller", "style_33x40": "smaller"}
        tensors |= {
            "wavelet_33x40": wavelet_color_fix(content, style, data["config"]["levels"]),
            "adain_33x40": adain(content, style),
        }
        data["outputs"] |= {"wavelet_33x40": "of the smaller", "adain_33x40": "of the smaller"}

    run(varied(name, tmp_path, more), request)


def test_a_colour_fix_of_whole_numbers_alone_and_of_another_size(tmp_path, request) -> None:
    def other(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for part in ("result", "source"):
            tensors[f"{part}_uint8_small"] = tensors[f"{part}_uint8"][:40, :33]
        data["inputs"] = {f"{part}_uint8_small": "RGB HWC" for part in ("result", "source")}
        given = [tensors[name].movedim(-1, 0)[None] / 255 for name in data["inputs"]]
        fixed = wavelet_color_fix(*given, data["config"]["levels"]).clamp(0, 1) * 255
        tensors["wavelet_uint8_small"] = fixed[0].movedim(0, -1).to(torch.uint8)
        data["outputs"] = {"wavelet_uint8_small": "RGB HWC"}

    run(varied("seesr/color_fix", tmp_path, other), request)


def test_tile_weights_of_a_tile_that_is_not_square(tmp_path, request) -> None:
    def other(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        data["outputs"] = {"weights_12x20": "rows x columns"}
        tensors["weights_12x20"] = tile_weights(12, 20, "authors")

    run(varied("pasd/tile_weights", tmp_path, other), request)


def test_a_tagger_picture_of_which_other_rows_are_kept(tmp_path, request) -> None:
    from restoration.tagger.ram import tagger_input

    def other(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        pixels = tensors["image_uint8"].movedim(-1, 0)[None] / 255
        tensors["plain"] = tagger_input(pixels, 96)[..., ::3, ::3]
        data["outputs"] = {"plain": "every 3rd row and column of the 96x96 result, NCHW"}

    run(varied("seesr/tagger_transform", tmp_path, other), request)


@pytest.mark.host
@pytest.mark.parametrize("name", ["seesr/controlnet", "pasd/controlnet_mask"])
def test_guess_mode_weighs_every_residual_by_its_depth(name, tmp_path, request) -> None:
    """From the recorded residuals: 0.1 at the shallowest, up to 1 in the middle."""

    def other(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        names = [n for n in sorted(data["outputs"]) if n != "mid"] + ["mid"]
        mask = tensors.get("fg_mask")
        for i, each in enumerate(names):
            plain = tensors[each]
            if mask is not None:  # takes the authors' two factors back
                inside = torch.nn.functional.interpolate(mask, plain.shape[-2:]) != 0
                plain = plain / torch.where(inside, 1.5, 0.6)
            tensors[each] = 0.5 * 10 ** (i / (len(names) - 1) - 1) * plain
        data["config"] |= {"guess_mode": True, "fg_mask": False, "conditioning_scale": 0.5}

    run(varied(name, tmp_path, other), request)


@pytest.mark.host
def test_weighted_guidance_is_weighted_where_its_map_is_not_recorded(tmp_path, request) -> None:
    def other(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        del data["outputs"]["weight_map"]

    run(varied("diffbir/guidance_v2_w_mse_rgb", tmp_path, other), request)


@pytest.mark.host
def test_network_inputs_of_both_branches(tmp_path, request) -> None:
    """The reference runs both in one batch and may record all rows of it."""

    def other(data: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for name in ("network_inputs", "network_timesteps"):
            tensors[name] = tensors[name].repeat_interleave(2, 1)

    run(varied("diffbir/sampler_ddim_v", tmp_path, other), request)


def test_a_row_of_sizes_with_a_column_that_is_not_compared_fails(tmp_path, request) -> None:
    case = read_case(PUBLIC["diffbir/preprocess_sizes"])
    row = {**case.data["rows"][0], "another_hw": [1, 1]}
    with pytest.raises(AssertionError, match=r"another_hw.*not compared"):
        run(GoldenCase(case.path, {**case.data, "rows": [row]}), request)
    wrong = {**case.data["rows"][0], "cldm_tiled": True}
    with pytest.raises(AssertionError, match="cldm_tiled"):
        run(GoldenCase(case.path, {**case.data, "rows": [wrong]}), request)
    del wrong["cldm_tiled"]
    only = {key: value for key, value in case.data.items() if key != "v1_rows"}
    run(GoldenCase(case.path, {**only, "rows": [wrong]}), request)


def toy(tmp_path: Path, outputs: dict[str, Tensor]) -> GoldenCase:
    case = {
        "method": "toy",
        "module": "double",
        "config": {"factor": 2},
        "seed": 1,
        "parameters": {},
        "call": "factor * x",
        "tolerance": 1e-6,
    }
    x = {"x": (torch.ones(2, 3), "any range")}
    described = {name: (value, "of x") for name, value in outputs.items()}
    return read_case(record(tmp_path / "toy" / "double.json", case, x, described))


def double(case: GoldenCase, get: Any) -> None:
    case.check({"y": case.config["factor"] * case.tensors["x"], "more": torch.zeros(1)})


DOUBLE = Runner(double, needs_host=False)


def test_an_output_that_the_runner_does_not_compare_fails(tmp_path) -> None:
    y = torch.full((2, 3), 2.0)
    DOUBLE(toy(tmp_path, {"y": y}), None)
    with pytest.raises(AssertionError, match="output z was not compared"):
        DOUBLE(toy(tmp_path, {"y": y, "z": y}), None)


def test_a_tensor_that_no_field_describes_is_an_output_too(tmp_path) -> None:
    case = toy(tmp_path, {"y": torch.full((2, 3), 2.0), "z": torch.ones(1)})
    del case.data["outputs"]["z"]
    with pytest.raises(AssertionError, match="output z was not compared"):
        DOUBLE(case, None)


def test_a_described_output_that_was_not_recorded_fails(tmp_path) -> None:
    case = toy(tmp_path, {"y": torch.full((2, 3), 2.0)})
    case.data["outputs"]["more"] = "forgotten"
    with pytest.raises(AssertionError, match="more: described, but not in double"):
        DOUBLE(case, None)


@pytest.mark.parametrize(
    "spoil",
    [lambda y: y + 1e-5, lambda y: y * float("nan"), lambda y: y[:, 1:], lambda y: y[:0]],
    ids=["value", "nan", "shape", "empty"],
)
def test_a_wrong_value_fails_the_comparison(spoil, tmp_path) -> None:
    with pytest.raises(AssertionError, match="y: "):
        DOUBLE(toy(tmp_path, {"y": spoil(torch.full((2, 3), 2.0))}), None)


def test_a_relative_comparison_measures_by_the_recorded_value(tmp_path) -> None:
    case = toy(tmp_path, {"y": torch.tensor([1e4, 1e-2, 0.0])})
    case.check({"y": torch.tensor([1e4 + 0.009, 1e-2, 0.0])}, relative=True)
    with pytest.raises(AssertionError, match="y: "):
        case.check({"y": torch.tensor([1e4, 1e-2 + 1e-7, 0.0])}, relative=True)
