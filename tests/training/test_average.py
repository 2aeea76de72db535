from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from restoration.tests.training.toy import run_toy, toy_config
from restoration.training.average import Average


def test_the_average_takes_the_parameters_place_and_gives_it_back() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    average = Average({"w": weight}, 0.5)
    for step, value in enumerate((1.0, 5.0)):
        weight.data.fill_(value)
        average.update(step)
    # 2/11 and 3/12 of the one before, while there are few steps.
    expected = 1 * (9 / 11) * 0.25 + 5 * 0.75
    with pytest.raises(RuntimeError), average.in_place():
        assert weight.tolist() == pytest.approx([expected] * 2)
        raise RuntimeError
    assert weight.tolist() == [5.0, 5.0]


def test_a_run_exports_the_average_and_takes_it_along_when_it_goes_on(tmp_path) -> None:
    averaged = {"optimizer": {"average": 0.9}}
    whole = run_toy(toy_config(tmp_path / "whole", **averaged))
    run_toy(toy_config(tmp_path / "parts", run={"steps": 2}, **averaged))
    again = run_toy(toy_config(tmp_path / "parts", **averaged), resume="2")
    files = [
        load_file(tmp_path / name / "export/00000004/toy.safetensors")
        for name in ("whole", "parts")
    ]
    for name, last in whole.trained().items():
        assert torch.equal(last, again.trained()[name])
        assert torch.equal(files[0][name], files[1][name])
        assert not torch.equal(files[0][name], last)
