"""Checkpoints as dictionaries: out of their wrappings, named, and checked."""

from __future__ import annotations

import math

import pytest
import torch

from restoration import registry
from restoration.common.state_dict import (
    CheckpointError,
    UnknownWeightsError,
    check_layout,
    not_finite,
    recognized,
    unwrapped,
)
from restoration.diffbir import keys as diffbir
from restoration.pasd import keys as pasd
from restoration.seesr import keys as seesr
from restoration.tagger import keys as tagger

ONE = torch.ones(1)


@pytest.mark.parametrize(
    "key",
    [
        "module.a.b",
        "_orig_mod.a.b",
        "module._orig_mod.a.b",
        "_orig_mod.module.a.b",
        "module.module.a.b",
        "a._orig_mod.b",
        "a.module.b",
        "_fsdp_wrapped_module.a._checkpoint_wrapped_module.b",
    ],
)
def test_wrappers_of_pytorch_leave_the_names_of_a_network_alone(key: str) -> None:
    for contents in ({key: ONE, "c": ONE}, {"state_dict": {key: ONE, "module.c": ONE}}):
        assert unwrapped(contents).keys() == {"a.b", "c"}


def test_names_of_real_wrappers_are_taken_off() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(1, 1))
    bare = network.state_dict().keys()
    averaged = torch.optim.swa_utils.AveragedModel(network)
    for wrapped in (torch.nn.DataParallel(network), averaged, torch.nn.DataParallel(averaged)):
        assert wrapped.state_dict().keys() != bare
        assert unwrapped(wrapped.state_dict()).keys() == bare


def test_a_network_beside_its_wrapped_self_stays_as_it_is() -> None:
    weights = {"module.a": ONE, "a": ONE}
    assert unwrapped(weights).keys() == weights.keys()


def test_wrappings_in_each_other_end() -> None:
    own: dict[str, object] = {}
    own["state_dict"] = own
    assert unwrapped(own) == {}
    assert unwrapped({"model": {"state_dict": {"module.a": ONE}}}).keys() == {"a"}
    for contents in (None, 1, [ONE], ONE, {"state_dict": [ONE]}):
        assert unwrapped(contents) == {}


def test_the_message_of_an_error_steers_no_terminal() -> None:
    assert str(CheckpointError("a\x1b[2J\x07\u202eb\n\udce9\x7f")) == (
        r"a\x1b[2J\x07\u202eb\n\udce9\x7f"
    )
    assert str(CheckpointError("Grün 修復 ok")) == "Grün 修復 ok"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64]
)
def test_one_number_that_is_none_is_found_anywhere(bad: float, dtype: torch.dtype) -> None:
    for size, place in ((1, 0), (64, 63), (4099, 2050)):
        weights = {"a": torch.ones(size, dtype=dtype), "b": torch.ones(size, dtype=dtype)}
        weights["b"][place] = bad
        assert not_finite(weights) == ["b"]
        assert not_finite({"t": weights["b"].view(-1, 1).expand(-1, 3).t()}) == ["t"]


def test_whole_numbers_and_what_has_no_numbers_are_finite() -> None:
    weights = {
        "empty": torch.empty(0, 3),
        "meta": torch.empty(3, device="meta"),
        "long": torch.full((3,), 2**62),
        "largest": torch.full((3,), torch.finfo(torch.float16).max, dtype=torch.float16),
        "eight": torch.ones(3).to(torch.float8_e4m3fn),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    assert not_finite(weights) == []
    assert not_finite({"eight": torch.tensor([math.nan]).to(torch.float8_e4m3fn)}) == ["eight"]


def test_a_sample_looks_at_the_beginning() -> None:
    weights = {"a": torch.ones(100)}
    weights["a"][50] = math.nan
    assert not_finite(weights, 50) == [] and not_finite(weights, 51) == ["a"]


def test_loaders_refuse_weights_that_are_not_finite() -> None:
    weights = {"a": torch.full((2,), math.nan), "b": ONE}
    with pytest.raises(CheckpointError, match=r"1 of 2 weights are not finite \(first: a\)\. Get"):
        check_layout(weights, {"a": (2,), "b": (1,)}, "x.pth", "it", "Get it again.")


@pytest.mark.parametrize(
    ("loader", "keys"),
    [
        (diffbir.convert, ("x.zero_convs.0.0.weight", "x.input_blocks.0.0.weight")),
        (diffbir.convert, ("zero_convs.0.0.weight", "input_blocks.0.0.weight")),
        (pasd.control_part, ("x.controlnet_cond_embedding.to_rgbs.0",)),
        (pasd.added_part, ("pixel_attentions.0",)),
        (seesr.control_part, ("x.controlnet_cond_embedding.a", "x.image_attentions.0")),
        (seesr.unet_parts, ("up_blocks.a", "image_attentions.0")),
        (lambda each: tagger.ram_weights(each, {}), ("x.visual_encoder.a", "x.tagging_head.a")),
        (lambda each: tagger.dape_pairs(each, {}), ("x.visual_encoder.a.lora_A",)),
    ],
)
def test_no_loader_says_that_a_file_is_not_what_it_is(loader, keys) -> None:
    """What looks like the expected file and is not loaded gets to know what is wrong with it."""
    weights = dict.fromkeys(keys, ONE)
    signature = recognized(weights, registry.signatures())
    assert signature and signature.expected
    with pytest.raises(UnknownWeightsError) as error, registry.naming():
        loader(weights)
    said = str(error.value)
    assert said.startswith(f"The file looks like {signature.what}, but its names or shapes")
    assert min(keys) in said and "this is" not in said
