"""The cases inside ComfyUI: in this process, and as the command starts them."""

from __future__ import annotations

import pytest
import torch

from restoration.tools.check import golden, hosted
from restoration.tools.check.runners import Place

CPU = torch.device("cpu")


@pytest.mark.host
def test_the_control_networks_pass_and_every_recorded_output_is_compared(comfy) -> None:
    outcomes = golden.run_cases(CPU, None, hosted.RUNNERS)
    assert len(outcomes) == 3 and not [each for each in outcomes if not each.passed]
    for case, runner in golden.cases_of(hosted.RUNNERS):
        with torch.no_grad():
            found = runner.compute(case, Place(CPU, torch.float32))
        assert set(found) == set(case.data["outputs"])


@pytest.mark.host
def test_what_half_precision_explains_is_what_a_cpu_measures(comfy) -> None:
    """bfloat16, whose differences are the larger."""
    for outcome in golden.run_cases(CPU, torch.bfloat16, hosted.RUNNERS)[1::2]:
        assert outcome.precision == "bfloat16"
        assert 2 < outcome.accepted / outcome.difference < 8, outcome.case


def test_a_process_that_ends_without_an_answer_is_a_sentence(tmp_path) -> None:
    with pytest.raises(OSError, match=r"The cases in ComfyUI ended with: .*No module named 'comfy"):
        hosted.ask(tmp_path, cpu=True)
