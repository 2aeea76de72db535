"""What patches of MODEL have in common, each mechanism by itself."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restoration.common.tiling import Tile
from restoration.tests.host.networks import seeded_input

pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def _host(comfy) -> None:
    """Its modules can be imported."""


class Patched:
    """A clone of MODEL that keeps what is added to it."""

    def __init__(self) -> None:
        self.wrappers: dict[tuple[str, str], Any] = {}

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Any) -> None:
        self.wrappers[kind, key] = wrapper


def test_a_model_call_goes_on_exactly_as_it_came() -> None:
    from comfy.patcher_extension import WrappersMP

    from restoration.host.patching import ModelCall, around_model_calls

    calls: list[ModelCall] = []

    def run(executor: Any, call: ModelCall) -> Tensor:
        calls.append(call)
        return call.run(executor)

    patched = Patched()
    around_model_calls(patched, "key", run)
    wrapper = patched.wrappers[WrappersMP.APPLY_MODEL, "key"]
    went_on: list[Any] = []

    def executor(*args: Any, **kwargs: Any) -> str:
        went_on.append((args, kwargs))
        return "result"

    x, t, text = torch.zeros(4, 4, 2, 2), torch.ones(4), torch.zeros(4, 7, 8)
    control, options = {"output": []}, {"cond_or_uncond": [1, 0]}
    assert wrapper(executor, x, t, None, text, control, options, y="size") == "result"
    assert went_on == [((x, t, None, text, control, options), {"y": "size"})]
    assert calls[0].chunks == calls[0].images == 2
    # The shortest form that the host may use.
    wrapper(executor, x, t, c_crossattn=text)
    assert went_on[1] == ((x, t, None, text, None, {}), {})


def test_what_a_call_is_told_stays_in_it() -> None:
    from restoration.host.patching import ModelCall

    options = {"cond_or_uncond": [0], "other": 1}
    call = ModelCall(torch.zeros(1), torch.ones(1), None, torch.zeros(1), None, options, {})
    told = call.with_options({"ours": 2, "other": 3})
    assert told.options == {"cond_or_uncond": [0], "other": 3, "ours": 2}
    assert call.options is options and options == {"cond_or_uncond": [0], "other": 1}


def test_clones_share_a_patch_and_its_methods() -> None:
    from restoration.host.patching import SharedByClones

    class Patch(SharedByClones):
        def run(self) -> None: ...

    patch = Patch()
    options = copy.deepcopy({"patches": [patch, patch.run]})
    assert options["patches"] == [patch, patch.run]


def test_more_memory_is_announced_as_rows() -> None:
    from comfy.patcher_extension import WrappersMP

    from restoration.host.patching import announce_memory, rows_of_bytes

    model = SimpleNamespace(
        model=SimpleNamespace(memory_required=lambda shape: shape[0] * shape[2] * shape[3])
    )
    assert [rows_of_bytes(n, model, [3, 4, 5, 6]) for n in (0, 1, 60, 61)] == [0, 1, 1, 2]
    patched = Patched()
    announce_memory(patched, "key", lambda model, shape: 2 * shape[0] + 1)
    wrapper = patched.wrappers[WrappersMP.PREPARE_SAMPLING, "key"]
    found = wrapper(lambda *args, **kwargs: (args, kwargs), model, (3, 4, 5, 6), "conds", b=1)
    assert found == ((model, [10, 4, 5, 6], "conds"), {"b": 1})


def test_one_guidance_applied_twice_is_known_by_two_keys() -> None:
    from restoration.host.x0_guidance import X0Guidance, add_guidance

    class Guidance(X0Guidance):
        patchers = ("network",)

        def guide(self, x0: Tensor, step: Any) -> Tensor:
            return x0

    added: list[str] = []

    class Model:
        def set_model_sampler_post_cfg_function(self, function: Any) -> None: ...
        def add_wrapper_with_key(self, *_: Any) -> None: ...
        def add_callback_with_key(self, *_: Any) -> None: ...
        def set_additional_models(self, key: str, models: list) -> None:
            added.append(key)
            assert models == ["network"]

    guidance = Guidance((0.0, 1.0), None)
    for _ in range(2):
        add_guidance(Model(), guidance)
    assert len(set(added)) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_white_and_black_masks_stay_exact_at_every_size(dtype, value) -> None:
    from restoration.host.masks import averaged, blended_by_mask, scaled_by_mask, whole_mask

    before, after = (seeded_input(0, name, 2, 3, 5, 7).to(dtype) for name in "ba")
    for height, width in ((1, 1), (8, 6), (33, 47), (640, 3)):
        mask = whole_mask(torch.full((2, height, width), value), (13, 9))
        assert mask.shape == (2, 1, 13, 9) and (mask == value).all()
        mask = mask.to(dtype)
        assert (averaged(mask, (4, 3)) == value).all()
        assert torch.equal(scaled_by_mask(before, mask), value * before)
        assert torch.equal(blended_by_mask(before, after, mask), after if value else before)
    assert scaled_by_mask(before, None) is before


def test_the_size_of_the_latent_is_that_of_tiles_or_of_rows_without_areas() -> None:
    from restoration.host.view import RowLayout, publish

    x = torch.zeros(6, 4, 8, 10)
    tiles = [Tile(0, left, 8, 10, 12, 20) for left in (0, 10)]
    inside = publish({}, *tiles)["transformer_options"]
    assert RowLayout.of(x, {}, [None]).full_size == (8, 10)
    assert RowLayout.of(x, {}, [None, (4, 4, 0, 0)]).full_size is None
    for areas in ([None], [(4, 4, 0, 0)]):
        assert RowLayout.of(x, inside, areas).full_size == (12, 20)
    assert RowLayout.of(x, inside, [None]).frames.indices == (0, 1, 2)


def test_rows_are_cut_by_chunk_then_tile_then_image() -> None:
    from restoration.host.view import RowLayout, publish

    whole = torch.arange(2 * 8 * 16).reshape(2, 1, 8, 16)
    tiles = [Tile(0, left, 4, 4, 4, 8) for left in (0, 4)]
    inside = publish({}, *tiles)["transformer_options"]
    x = torch.zeros(2 * 2 * 2, 4, 2, 3)
    areas = [(2, 3, 1, 0), (2, 3, 0, 1)]
    found = RowLayout.of(x, inside, areas).cut(whole, "picture", factor=2)
    expected = [
        whole[..., 2 * y : 2 * (y + 2), 2 * (left + column) : 2 * (left + column + 3)]
        for y, column in ((1, 0), (0, 1))
        for left in (0, 4)
    ]
    assert torch.equal(found, torch.cat(expected))
