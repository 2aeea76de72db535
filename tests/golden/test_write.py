"""The file form of cases, and recording one."""

from __future__ import annotations

import json

import pytest
import torch

from restoration.common.color import adain, mean_std, wavelet_color_fix, wavelet_decomposition
from restoration.tests.golden.suite import FOLDER, RUNNERS, load_runners, read_case
from restoration.tests.golden.write import form, record, rewrite

FILES = sorted(FOLDER.glob("*/*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_case_is_in_the_file_form(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == form(json.loads(text)), f"run: .venv/bin/python tests/golden/write.py {path}"


def test_a_row_of_a_table_takes_one_line_and_the_contents_stay(tmp_path) -> None:
    data = {
        "parameters": {"conv.weight": [16, 3, 3, 3], "scale": []},
        "groups": {"all": {"conv.weight": [[16, 3, 3, 3], "float"], "scale": [[], "float"]}},
        "config": {"labels": ["a", "b"], "flag": None, "lambdas": [[1.0, 0.5], [0.2, 1e-06]]},
        "rows": [{"input_wh": [3, 4], "tiled": True, "note": "grün"}],
        "buffers": [],
    }
    path = tmp_path / "case.json"
    path.write_text(json.dumps(data, indent=4), encoding="utf-8")
    assert rewrite(path) and not rewrite(path)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == data and list(json.loads(text)) == list(data)
    for line in (
        '  "conv.weight": [16, 3, 3, 3],',
        '   "conv.weight": [[16, 3, 3, 3], "float"],',
        '   "scale": [[], "float"]',
        "   [0.2, 1e-06]",
        '   "input_wh": [3, 4],',
        '   "note": "grün"',
        ' "buffers": []',
    ):
        assert line in text.splitlines()


def colour_fix(path, **changes):
    torch.manual_seed(3)
    content, style = torch.rand(2, 3, 24, 32), torch.rand(2, 3, 24, 32)
    high, _ = wavelet_decomposition(content)
    mean, _ = mean_std(content, 1e-5)
    case = {
        "method": "pasd",
        "module": "colour correction",
        "config": {"levels": 5, "eps": 1e-5},
        "seed": 3,
        "parameters": {},
        "call": "wavelet(content, style), adain(content, style)",
        "tolerance": 1e-5,
    }
    outputs = {
        "wavelet": (wavelet_color_fix(content, style), "not clamped"),
        "adain": (adain(content, style), "not clamped"),
        "content_high": (high, "high band of content"),
        "content_mean": (mean[:, :, 0, 0][..., None, None], "per channel"),
    }
    inputs = {
        "content": (content, "NCHW 0..1"),
        "style": (style.movedim(1, -1).contiguous().movedim(-1, 1), "NCHW 0..1"),
    }
    return record(path, {**case, **changes}, inputs, {**outputs})


def test_a_recorded_case_runs_through_its_runner(tmp_path) -> None:
    load_runners()
    case = read_case(colour_fix(tmp_path / "pasd" / "another.json"))
    RUNNERS[case.method, case.module](case, lambda name: None)
    assert case.compared == {"wavelet", "adain", "content_high", "content_mean"}
    assert case.name == "pasd/another"
    text = case.path.read_text(encoding="utf-8")
    assert text == form(json.loads(text))


def test_recording_takes_the_shapes_of_weights_and_any_layout_of_memory(tmp_path) -> None:
    weights = {"conv.weight": torch.zeros(8, 3, 3, 3), "conv.bias": [8]}
    case = read_case(colour_fix(tmp_path / "case.json", parameters=weights))
    assert case.data["parameters"] == {"conv.weight": [8, 3, 3, 3], "conv.bias": [8]}
    assert case.state_dict()["conv.weight"].shape == (8, 3, 3, 3)


def test_what_a_case_lacks_is_said_before_anything_is_written(tmp_path) -> None:
    path, one = tmp_path / "case.json", torch.ones(1)
    whole = {
        "method": "m",
        "module": "x",
        "config": {},
        "seed": 1,
        "parameters": {},
        "call": "f(x)",
        "tolerance": 0.1,
    }
    without = {key: value for key, value in whole.items() if key != "tolerance"}
    with pytest.raises(ValueError, match=r"case\.json lacks tolerance"):
        record(path, without, {}, {"y": (one, "y")})
    with pytest.raises(ValueError, match="y cannot be both input and output"):
        record(path, whole, {"y": (one, "y")}, {"y": (one, "y")})
    with pytest.raises(ValueError, match="say what y is"):
        record(path, whole, {}, {"y": (one, "")})
    assert not list(tmp_path.iterdir())
