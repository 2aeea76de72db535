"""The cases that come with the pack: the same as the repository's, and every way to fail them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from restoration.tests.golden import seeded
from restoration.tests.golden.suite import FOLDER
from restoration.tools.check import cases, golden, hosted, runners

CPU = torch.device("cpu")
EVERY = {**runners.RUNNERS, **hosted.RUNNERS}
SMALL = {key: each for key, each in runners.RUNNERS.items() if key != ("diffbir", "SCUNet")}


def test_cases_are_the_repositorys_few_and_each_has_a_runner() -> None:
    files = [path for path in cases.CASES.rglob("*") if path.is_file()]
    for path in files:
        assert path.read_bytes() == (FOLDER / path.relative_to(cases.CASES)).read_bytes()
    assert sum(path.stat().st_size for path in files) < 2_000_000
    every = cases.read_cases()
    assert {case.key for case in every} == set(EVERY)
    halved = {case.name for case in every if EVERY[case.key].halved}
    assert set(golden.explained()) == halved


@pytest.mark.parametrize(("name", "shape"), [("a.weight", [3, 2]), ("n.weight", [5]), ("b", [5])])
def test_weights_are_drawn_by_the_rule_of_the_cases(name: str, shape: list[int]) -> None:
    assert np.array_equal(cases.drawn(7, name, shape).numpy(), seeded.parameter(7, name, shape))


def test_every_case_passes_on_this_cpu() -> None:
    outcomes = golden.run_cases(CPU)
    alone = [case.name for case in cases.read_cases() if case.key in runners.RUNNERS]
    assert [each.case for each in outcomes] == alone
    assert not [each for each in outcomes if not each.passed]
    assert all(each.precision == "float32" for each in outcomes)


def test_networks_run_in_half_precision_and_formulas_do_not() -> None:
    outcomes = golden.run_cases(CPU, torch.bfloat16, SMALL)
    halves = [each for each in outcomes if each.precision == "bfloat16"]
    assert {each.case.partition("/")[0] for each in halves} == {"diffbir", "pasd", "seesr"}
    assert all(each.passed and each.difference > 0 for each in halves)


@pytest.mark.slow  # half precision is imitated on most CPUs
def test_what_half_precision_explains_is_what_a_cpu_measures() -> None:
    for name, found in golden.cpu_halves().items():
        for precision, difference in found.items():
            assert 0.5 < difference / golden.explained()[name][precision] < 2, name


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda found: {k: v + 0.01 for k, v in found.items()}, ""),
        (lambda found: {k: v * math.nan for k, v in found.items()}, ""),
        (lambda found: {k: v[..., 1:] for k, v in found.items()}, "The shape is"),
        (lambda found: 1 / 0, "division by zero"),
    ],
    ids=["other numbers", "not finite", "another shape", "an error"],
)
def test_a_device_that_computes_something_else_fails(wrong, words: str) -> None:
    key = ("styleid", "adain of the two inverted latents")
    right = runners.RUNNERS[key]
    runner = runners.Runner(lambda c, place: wrong(right.compute(c, place)), halved=False)
    (outcome,) = golden.run_cases(CPU, torch.float16, {key: runner})
    assert not outcome.passed and words in outcome.problem
    json.loads(json.dumps(outcome.as_dict(), allow_nan=False))


def test_every_recorded_output_is_compared() -> None:
    """But the bytes of the color fix, which follow from its pixels, and a third party's formula."""
    left = {"osediff/color_fix": {"wavelet_uint8", "adain_uint8"}, "styleid/adain": {"seed_port"}}
    for case, runner in golden.cases_of(SMALL):
        found = runner.compute(case, runners.Place(CPU, torch.float32))
        assert set(found) == set(case.data["outputs"]) - left.get(case.name, set()), case.name


def test_another_folder_of_cases_is_read(tmp_path: Path) -> None:
    assert cases.read_cases(tmp_path) == []
