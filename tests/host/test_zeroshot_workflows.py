"""Every workflow of a known degradation as shipped, run to an image by ComfyUI's own executor with tiny
networks; what they promise holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from restoration.tests.host.tiny_methods import loaders_of, tiny_methods
from restoration.tests.host.workflow_runs import (
    HEIGHT,
    WIDTH,
    photo,
    replaced_loaders,
    run,
    shipped,
)

pytestmark = pytest.mark.host

SIDE = 64
WORKFLOWS = {
    "repaint_inpaint": (WIDTH, HEIGHT),
    "luma_color": (WIDTH, HEIGHT),
    "jpeg_repair": (WIDTH, HEIGHT),
    "bicubic_seesr": (4 * WIDTH, 4 * HEIGHT),
}
"""Name -> size of what comes out."""


@pytest.fixture(scope="module")
def tiny(comfy) -> SimpleNamespace:
    return tiny_methods()


@pytest.fixture
def load(comfy, tiny):
    """(name, photo) -> the shipped file, small and in few steps; (its one node of a kind)."""

    def prompt_of(name: str, picture: str) -> dict[str, Any]:
        prompt = shipped(name, picture)
        for node in prompt.values():
            inputs = node["inputs"]
            if node["class_type"] == "ImageScale":
                assert inputs["height"] == 512
                inputs["height"] = SIDE
            if node["class_type"] == "ZeroShotSampler":
                inputs |= {"jump_length": 1, "jump_repeats": min(2, inputs["jump_repeats"])}
            if node["class_type"] == "GrowMask":
                inputs["expand"] = 1
        return prompt

    with replaced_loaders(comfy, loaders_of(tiny, lambda: tiny.bases["seesr"])):
        yield prompt_of


def one(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    (inputs,) = (node["inputs"] for node in prompt.values() if node["class_type"] == kind)
    return inputs


@pytest.mark.parametrize("name", WORKFLOWS)
def test_runs_to_an_image_of_the_promised_size(comfy, load, name: str) -> None:
    prompt = load(name, photo(comfy, faces=int("inpaint" in name)))
    found = run(comfy, prompt)
    assert found.shape[1::-1] == WORKFLOWS[name]
    assert found.std() > 1
    if name != "repaint_inpaint":  # the degradation is what the picture hangs on
        one(prompt, "DDNMGuidance")["strength"] = 0.0
        assert (run(comfy, prompt) != found).mean() > 0.2


def test_only_the_hole_is_painted_again(comfy, load) -> None:
    name = photo(comfy, faces=1)
    before = np.asarray(Image.open(Path(comfy.folder_paths.get_input_directory()) / name))
    after = run(comfy, load("repaint_inpaint", name))
    hole = before[..., 3] == 0
    around = hole | np.roll(hole, 1, 0) | np.roll(hole, -1, 0)
    around |= np.roll(around, 1, 1) | np.roll(around, -1, 1)
    difference = abs(after.astype(int) - before[..., :3]).max(-1)
    assert difference[~around].max() <= 1
    assert (difference[hole] > 1).mean() > 0.5
