"""A small fixed part of the matrix, and faults on purpose. All of it: scripts/matrix.sh"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from restoration.tests.matrix import run

pytestmark = pytest.mark.host

EXTRAS = {"nodes_easycache": "EasyCache", "nodes_sag": "SelfAttentionGuidance"}
"""Of the host: one that keeps what it saw by entry of the prompt, and one that reads the rows of
the negative."""
OURS = ("PACAControlApply light", "RestorationCFG range", "TiledRestoration")


@pytest.fixture(scope="module")
def matrix(comfy: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from restoration.tests.matrix.cells import Matrix

    return Matrix(comfy.path, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def ours(comfy: SimpleNamespace) -> dict[str, Any]:
    from restoration.tests.matrix.columns import columns

    return {column.name: column for column in columns()}


def test_a_small_part_holds(comfy, matrix, ours) -> None:
    from restoration.tests.matrix.cells import core_nodes, run_cells

    for file in EXTRAS:
        path = str(Path(comfy.path) / "comfy_extras" / f"{file}.py")
        assert asyncio.run(comfy.nodes.load_custom_node(path, module_parent="comfy_extras"))
    rows = [row for row in core_nodes(comfy.nodes)[0] if row.name in EXTRAS.values()]
    cells = list(run_cells(matrix, [ours[name] for name in OURS], rows))
    faults = [
        f"{c.ours} x {c.theirs}, {c.order}: {c.check}: {c.text}" for c in cells if c.kind == "fault"
    ]
    assert not faults, "\n".join(faults)
    held = {(c.ours, c.theirs) for c in cells if c.kind in ("ran", "sentence")}
    assert held >= set(itertools.product(OURS, EXTRAS.values()))


def test_every_node_of_ours_that_patches_a_model_is_in_it(ours) -> None:
    from restoration.nodes import load_nodes
    from restoration.tests.matrix.columns import ON_TEXTS, PASSED_ON
    from restoration.tests.matrix.wiring import takes_and_gives_model

    patches = {node.GET_SCHEMA().node_id for node in load_nodes() if takes_and_gives_model(node)}
    named = {column.wired.node.GET_SCHEMA().node_id for column in ours.values()}
    assert named == (patches - PASSED_ON.keys()) | ON_TEXTS.keys()


class ScalesOutput:
    """As a node of the host: halves what the guider gives."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model: Any) -> tuple[Any]:
        model = model.clone()
        model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] / 2)
        return (model,)


def leaves_a_hook(setup: Any, plain: Any) -> Any:
    setup.model.model.diffusion_model.register_forward_hook(lambda *_: None)
    return setup


def changes_its_input(setup: Any, plain: Any) -> Any:
    setup.model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] / 3)
    return setup


def drops_the_other(setup: Any, plain: Any) -> Any:
    return plain


def is_not_finite(setup: Any, plain: Any) -> Any:
    return replace(setup, latent=torch.full_like(setup.latent, torch.nan))


def has_a_mistake(setup: Any, plain: Any) -> Any:
    return setup.mode


def torch_complains(setup: Any, plain: Any) -> Any:
    raise_by_torch = torch.zeros(2) @ torch.zeros(3)
    return replace(setup, latent=raise_by_torch)


def says_a_sentence(setup: Any, plain: Any) -> Any:
    raise ValueError("The model has the wrong size: load another one.")


@pytest.fixture
def fresh(matrix) -> Iterator[Any]:
    """A matrix whose scenes a fault may spoil."""
    from restoration.tests.matrix.cells import Matrix

    yield Matrix(matrix.host, matrix.models, seed=1)


@pytest.mark.parametrize(
    ("does", "kind", "check"),
    [
        (leaves_a_hook, "fault", "base"),
        (changes_its_input, "fault", "base"),
        (drops_the_other, "fault", "theirs"),
        (is_not_finite, "fault", "finite"),
        (has_a_mistake, "fault", "raises"),
        (torch_complains, "fault", "raises"),
        (says_a_sentence, "sentence", ""),
    ],
)
def test_what_is_broken_on_purpose_is_found(fresh, does: Callable, kind: str, check: str) -> None:
    from restoration.tests.matrix.columns import Column
    from restoration.tests.matrix.wiring import Wired

    class Broken(Column):
        def apply(self, setup: Any, scene: Any) -> Any:
            return does(setup, scene.setup)

    column = Broken(Wired("Broken", ScalesOutput), runs=(("theirs first", 4.0),))
    (cell,) = fresh.cells(column, Wired("ScalesOutput", ScalesOutput))
    assert (cell.kind, cell.check) == (kind, check), cell.text


class KeepsByEntry:
    """As a node of the host: a cache by entry of the prompt, as EasyCache has one."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model: Any) -> tuple[Any]:
        from comfy.patcher_extension import WrappersMP

        def reuse(executor: Any, *args: Any, **kwargs: Any) -> Any:
            key = tuple(args[-1]["uuids"])
            if key not in kept:
                kept[key] = executor(*args, **kwargs)
            return kept[key]

        def forget(executor: Any, *args: Any, **kwargs: Any) -> Any:
            kept.clear()
            return executor(*args, **kwargs)

        kept: dict[Any, Any] = {}
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "keeps", reuse)
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "keeps", forget)
        return (model,)


@pytest.mark.parametrize("shared", [False, True])
def test_tiles_that_share_an_entry_of_the_prompt_are_found(
    matrix, ours, monkeypatch, shared: bool
) -> None:
    from restoration.host import tiled_conds
    from restoration.tests.matrix.wiring import Wired

    if shared:
        same = SimpleNamespace(uuid5=lambda entry, place: entry)
        monkeypatch.setattr(tiled_conds, "uuid", same)
    row = Wired(f"KeepsByEntry {shared}", KeepsByEntry)
    *_, cell = matrix.cells(ours["TiledRestoration"], row)
    assert cell.order == "in tiles"
    assert (cell.kind, cell.check) == (("fault", "tile batch") if shared else ("ran", ""))


@pytest.mark.slow
def test_all_of_it_holds(comfy) -> None:
    assert run.main(["--host", str(comfy.path)]) == 0
