"""The Restore nodes: a whole method as one node, by ComfyUI's own executor.

Loaders are replaced by tiny real networks, as in the tests of the workflows; the recipes keep all
their settings but the number of steps and the least size to work at.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from restoration.tests.host.tiny_methods import loaders_of, tiny_methods
from restoration.tests.host.workflow_runs import (
    HEIGHT,
    WIDTH,
    Server,
    as_shipped,
    executor_of,
    opened,
    photo,
    replaced_loaders,
    run,
)

pytestmark = pytest.mark.host

WORKFLOWS = (
    "diffbir_v2_upscale",
    "diffbir_v2.1_upscale",
    "diffbir_face",
    "pasd_upscale",
    "pasd_colorization",
    "seesr_upscale",
    "osediff_upscale",
    "pisasr_upscale",
)
"""Those with a Restore node of each kind."""
QUICK = [
    pytest.param(name, marks=pytest.mark.slow) if name == "diffbir_face" else name
    for name in WORKFLOWS
]
"""A face takes half a minute; test_diffbir_workflows.py restores one on every change."""


@pytest.fixture(scope="module")
def tiny(comfy) -> SimpleNamespace:
    return tiny_methods()


@pytest.fixture
def workflow(comfy, tiny, monkeypatch):
    """Gives shipped workflows in two steps on a small picture; the Restore node's inputs are
    given beside them."""
    from restoration.diffbir import recipe as diffbir
    from restoration.nodes.restore import NODES
    from restoration.onestep import recipe as onestep
    from restoration.pasd import recipe as pasd
    from restoration.seesr import recipe as seesr

    for recipe in (diffbir, onestep, seesr):
        monkeypatch.setattr(recipe, "MIN_SIDE", 64)
    for version in pasd.VERSIONS.values():
        monkeypatch.setitem(vars(version), "min_side", 64)
    kinds = {each.define_schema().node_id: each for each in NODES}
    which: list[str] = []

    def base() -> Any:
        (name,) = which
        return tiny.bases["diffbir_v2.1" if "v2.1" in name else name.partition("_")[0]]

    def load(name: str, picture: str = "", **inputs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        which[:] = [name]
        prompt = as_shipped(name, picture or photo(comfy, int("face" in name)))
        (node,) = (n for n in prompt.values() if n["class_type"].startswith("Restore"))
        if "face" in name and not picture:  # painted by hand
            node["inputs"]["mask"] = node["inputs"].pop("transparency")
        known = {part.id for part in kinds[node["class_type"]].define_schema().inputs}
        wanted = {"steps": 2, "upscale_by": 1.0, **inputs}
        node["inputs"] |= {key: value for key, value in wanted.items() if key in known}
        return prompt, node["inputs"]

    with replaced_loaders(comfy, loaders_of(tiny, base)):
        yield load


@pytest.mark.parametrize("name", QUICK)
def test_the_node_gives_the_pixels_of_its_recipe(comfy, workflow, name) -> None:
    more = {"tile_size": 256} if name == "pasd_upscale" else {}
    prompt, _ = workflow(name, prompt="a cat", speed="fast", fidelity=0.6, **more)
    one = run(comfy, prompt)
    assert one.std() > 1
    assert (one == run(comfy, opened(prompt))).all()


def test_pasd_with_the_lcm_lora_is_one_call_a_step_from_the_photo(comfy, workflow, tiny) -> None:
    heard: list[float] = []

    def hear(_: Any, given: tuple[Any, ...]) -> None:
        heard.extend(given[1].tolist())

    prompt, _ = workflow(
        "pasd_upscale", version="pasd_lcm", steps=0, negative_prompt="without effect"
    )
    handle = tiny.bases["pasd"].model.diffusion_model.register_forward_pre_hook(hear)
    try:
        one = run(comfy, prompt)
    finally:
        handle.remove()
    assert heard == [999, 759, 499, 259]
    assert one.std() > 1
    assert (one == run(comfy, opened(prompt))).all()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_recipes_give_every_required_input_of_every_node(comfy, workflow, name) -> None:
    from restoration.drawing.definitions import inputs_of

    for speed in ("authors", "fast"):
        prompt, _ = workflow(name, speed=speed, tile_size=512)
        for number, node in opened(prompt).items():
            kind = comfy.nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
            described = inputs_of(node["class_type"], {node["class_type"]: kind})
            required = {each.name for each in described if not each.optional}
            assert required <= set(node["inputs"]), number
            assert set(node["inputs"]) <= {each.name for each in described}, number


class Reports(Server):
    """Which nodes began, as the front end is told."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[tuple[str, str]] = []

    def send_sync(self, event: str, data: Any, sid: Any = None) -> None:
        if event == "executing" and data["node"]:
            self.began.append((data["node"], data["display_node"]))


def executed(executor: Any, prompt: dict[str, Any]) -> tuple[set[str], set[str]]:
    """({nodes inside that ran, by their recipe's names}, {what the front end shows as running})."""
    import execution

    executor.server.began.clear()
    _, _, outputs, _ = asyncio.run(execution.validate_prompt("0", prompt, None))
    executor.execute(prompt, "0", {"client_id": "someone"}, outputs)
    assert executor.success, executor.status_messages
    began = executor.server.began
    return {node.rpartition(": ")[2] for node, _ in began if "." in node}, {
        shown for node, shown in began if "." in node
    }


def test_inner_results_are_kept_and_the_outer_node_is_shown(comfy, workflow) -> None:
    executor = executor_of(Reports())
    prompt, inputs = workflow("diffbir_v2_upscale")
    (number,) = (k for k, n in prompt.items() if n["class_type"] == "RestoreWithDiffBIR")
    first, shown = executed(executor, prompt)
    assert {"clean", "prepare", "latent", "control", "sampled", "decoded", "finish"} <= first
    assert shown == {number}
    assert executed(executor, prompt)[0] == set()
    inputs["color_correction_method"] = "adain"
    assert executed(executor, prompt)[0] == {"finish"}
    inputs["seed"] = 5
    assert executed(executor, prompt)[0] == {"start", "sampled", "decoded", "finish"}


def painted(prompt: dict[str, Any], value: float) -> list:
    """A link to a mask as large as the photo, of one value."""
    size = {"width": WIDTH, "height": HEIGHT}
    prompt["painted"] = {"class_type": "SolidMask", "inputs": {"value": value, **size}}
    return ["painted", 0]


@pytest.mark.parametrize("name", QUICK)
def test_a_transparent_photo_comes_back_transparent(comfy, workflow, name) -> None:
    folder = comfy.folder_paths.get_input_directory()
    pixels = np.random.default_rng(2).integers(0, 255, (HEIGHT, WIDTH, 4)).astype(np.uint8)
    pixels[..., 3] = 255
    pixels[:8, :, 3] = 0
    Image.fromarray(pixels).save(f"{folder}/transparent.png")
    prompt, inputs = workflow(name, "transparent.png")
    if "face" in name:  # all of it is one
        inputs["mask"] = painted(prompt, 1.0)
    image = run(comfy, prompt)
    assert image.shape == (HEIGHT, WIDTH, 4)
    assert (image[:6, :, 3] == 0).all() and (image[10:, :, 3] == 255).all()


def test_the_faces_of_a_photo_are_restored_in_one_step_and_nothing_else(comfy, workflow) -> None:
    prompt, _ = workflow("osediff_face", photo(comfy, 1))
    (size,) = (n["inputs"] for n in prompt.values() if n["class_type"] == "RestorationPrepare")
    (crop,) = (n["inputs"] for n in prompt.values() if n["class_type"] == "RestorationFaceCrop")
    crop["mask"] = size.pop("transparency")  # the face, painted by hand
    size["min_side"] = 1
    restored = run(comfy, prompt).astype(int)
    folder = comfy.folder_paths.get_input_directory()
    before = np.asarray(Image.open(f"{folder}/photo_1.png").convert("RGB")).astype(int)
    changed = np.abs(restored - before).max(-1) > 1
    assert changed[6:18, 4:10].all() and not changed[:, 20:].any()


def test_only_the_painted_part_is_restored(comfy, workflow) -> None:
    """An all-black mask is the plain model's picture, an all-white one that without a mask."""
    prompt, inputs = workflow("pasd_upscale")
    everywhere = run(comfy, prompt)

    def masked(value: float) -> np.ndarray:
        inputs["mask"] = painted(prompt, value)
        return run(comfy, prompt)

    assert (masked(1.0) == everywhere).all()
    nowhere = masked(0.0)
    assert (nowhere != everywhere).any()
    applied = opened(prompt)
    (control,) = (n["inputs"] for n in applied.values() if n["class_type"] == "PACAControlApply")
    control["strength"] = 0.0
    assert (run(comfy, applied) == nowhere).all()


def test_errors_inside_name_the_node_and_what_is_in_it(comfy, workflow, tiny, monkeypatch) -> None:
    from restoration.host.branch import BranchPatch

    def fail(*_: object) -> None:
        raise ValueError("Too large.")

    prompt, _ = workflow("pasd_upscale")
    outer = "Restore with PASD: Apply PASD: "
    with monkeypatch.context() as patched:
        patched.setattr(BranchPatch, "_check_size", fail)
        with pytest.raises(RuntimeError, match=f"{outer}Too large."):
            run(comfy, prompt)
    monkeypatch.setitem(tiny.bases, "pasd", tiny.bases["diffbir"])
    with pytest.raises(RuntimeError, match=f"{outer}These PASD files"):
        run(comfy, prompt)


def test_an_error_of_a_core_node_inside_is_told_at_the_restore_node(
    comfy, workflow, monkeypatch
) -> None:
    """By the host: it gives the node on the canvas, which the front end marks and names."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Allocation on device")

    monkeypatch.setattr(comfy.nodes.VAEDecode, "decode", fail)
    prompt, _ = workflow("pasd_upscale")
    with pytest.raises(RuntimeError) as raised:
        run(comfy, prompt)
    (number,) = (n for n, each in prompt.items() if each["class_type"] == "RestoreWithPASD")
    told = str(raised.value)
    assert f"'node_id': '{number}', 'node_type': 'RestoreWithPASD'" in told
    assert "Allocation on device" in told


def test_a_tile_that_is_too_small_is_refused_by_name(comfy, workflow) -> None:
    prompt, inputs = workflow("pasd_upscale", tile_size=64)
    with pytest.raises(AssertionError, match="`tile_size` is 64; tiles need at least 256"):
        run(comfy, prompt)
    inputs["tile_size"] = 0
    run(comfy, prompt)
