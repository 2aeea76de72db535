"""Errors after a node has run, and in nodes that nobody sees: the message says whose they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.tests.host.test_patching import Patched

pytestmark = pytest.mark.host

X, T = torch.zeros(1, 4, 2, 2), torch.ones(1)


@pytest.fixture(autouse=True)
def _host(comfy) -> None:
    """Its modules can be imported."""


def set_by(node: str, run: Any) -> Any:
    """The wrapper of a patch that a node has set."""
    from restoration.host.errors import running
    from restoration.host.patching import around_model_calls

    patched = Patched()
    with running(node):
        around_model_calls(patched, "key", run)
    (wrapper,) = patched.wrappers.values()
    return wrapper


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Tensor:
        raise error

    return fail


def goes_on(executor: Any, call: Any) -> Tensor:
    return call.run(executor)


def said(wrapper: Any, executor: Any) -> str:
    with pytest.raises(ValueError) as caught:
        wrapper(executor, X, T, None, X, None, {})
    return str(caught.value)


def test_an_error_of_a_patch_names_its_node_and_one_of_another_does_not() -> None:
    wrong = set_by("Apply PASD", failing(ValueError("Too small.")))
    assert said(wrong, None) == "Apply PASD: Too small."
    outer = set_by("Tiled Restoration", goes_on)
    assert said(outer, lambda *a, **k: wrong(None, *a, **k)) == "Apply PASD: Too small."
    assert said(outer, failing(ValueError("Of core."))) == "Of core."
    named = set_by("Apply StyleID (Style)", failing(ValueError("Run Apply StyleID alone.")))
    assert said(named, None) == "Run Apply StyleID alone."


def test_a_patch_inside_the_network_has_a_name_too() -> None:
    def run(executor: Any, call: Any) -> Tensor:
        return call.with_patch("attn1_patch", failing(ValueError("Merged."))).run(executor)

    def network(*args: Any) -> Tensor:
        (patch,) = args[5]["patches"]["attn1_patch"]
        return patch()

    outer = set_by("Apply PASD", goes_on)
    inner = set_by("Apply StyleID", run)
    assert said(outer, lambda *args: inner(network, *args)) == "Apply StyleID: Merged."


def test_out_of_memory_and_interruption_are_still_told_by_their_type(comfy) -> None:
    from comfy import model_management as mm

    from restoration.host.memory import is_out_of_memory

    for error in (mm.OOM_EXCEPTION("Full."), mm.InterruptProcessingException(), OSError(2, "No")):
        with pytest.raises(type(error)) as caught:
            set_by("Apply PASD", failing(error))(None, X, T, None, X, None, {})
        assert caught.value is error
        assert is_out_of_memory(error) == isinstance(error, mm.OOM_EXCEPTION)


def test_a_node_inside_another_names_both(comfy) -> None:
    from comfy_execution.utils import CurrentNodeContext

    from restoration.host.errors import inner_id, outer_node, running
    from restoration.nodes.restoration import RestorationFidelity

    with running("Restore with PASD"):
        inside = f"5:12.0.0.{inner_id('sampled')}"
    for node_id, outer in (("5:12", ""), ("5:12.0.0.other", ""), (inside, "Restore with PASD")):
        with CurrentNodeContext("prompt", node_id):
            assert outer_node() == outer
            with pytest.raises(ValueError) as caught:
                RestorationFidelity.execute(2.0)
        begin = "Restore with PASD: Fidelity Dial: " if outer else ""
        assert str(caught.value) == f"{begin}`fidelity` is 2; it goes from 0 to 1."
