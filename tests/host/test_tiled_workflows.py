"""The 4K workflows as shipped, run by ComfyUI's own executor on a small photo with small tiles.

The loaders are replaced by tiny real networks, and by a tiny real VAE: the exact nodes walk through
its layers. Everything else is the file's, but for what costs time: steps, least size, tiles.
"""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from restoration.tests.host.tiny_methods import loaders_of, tiny_methods
from restoration.tests.host.workflow_runs import (
    API,
    photo,
    replaced_loaders,
    run,
    shipped,
)

pytestmark = pytest.mark.host

WIDTH, HEIGHT, FACTOR = 96, 80, 4
TILED = sorted(path.stem for path in API.glob("*_upscale_4k_tiled.json"))


@pytest.fixture(scope="module")
def tiny(comfy) -> SimpleNamespace:
    return tiny_methods()


EXTRA = pytest.mark.slow  # a minute each; the pieces are held by test_tiled_restoration.py
QUICK = ("diffbir", "pisasr")


@pytest.fixture(
    params=[pytest.param(name, marks=() if name.startswith(QUICK) else EXTRA) for name in TILED]
)
def prompt(request, comfy, tiny) -> dict[str, Any]:
    """A shipped workflow with a small photo and tiles of 256, its loaders replaced."""
    name = request.param
    base = tiny.bases[name.partition("_")[0]]
    small = photo(comfy)
    folder = Path(comfy.folder_paths.get_input_directory())
    Image.open(folder / small).convert("RGB").resize((WIDTH, HEIGHT)).save(folder / "larger.png")
    found = shipped(name, "larger.png")
    node(found, "TiledRestoration").update(tile_size=256, tile_overlap=64)
    for kind in ("TiledVAEEncodeExact", "TiledVAEDecodeExact"):
        node(found, kind)["tile_size"] = 128
    with replaced_loaders(comfy, loaders_of(tiny, lambda: base)):
        yield found


def node(prompt: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (each["inputs"] for each in prompt.values() if each["class_type"] == kind)
    return found


def difference(a: np.ndarray, b: np.ndarray) -> int:
    """The largest, in 8-bit levels."""
    return int(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max())


def test_every_method_that_samples_a_photo_has_one() -> None:
    assert {name.partition("_")[0] for name in TILED} == {"diffbir", "pasd", "seesr", "pisasr"}


def test_runs_in_tiles_that_leave_no_choice_in_the_picture(comfy, prompt, caplog) -> None:
    caplog.set_level(logging.INFO)
    image = run(comfy, prompt)
    assert image.shape[1::-1] == (FACTOR * WIDTH, FACTOR * HEIGHT)
    assert image.std() > 1
    assert "384x320 pixels in 4 tiles of 256x256 (2 x 2), overlap 64, 1 at once" in caplog.text

    # Four tiles at once, and core's untiled VAE.
    node(prompt, "TiledRestoration")["tile_batch_size"] = 4
    for each in prompt.values():
        if each["class_type"].startswith("TiledVAE"):
            each["class_type"] = each["class_type"].removeprefix("Tiled").removesuffix("Exact")
            del each["inputs"]["tile_size"]
    assert difference(run(comfy, prompt), image) <= 1
    assert "overlap 64, 4 at once" in caplog.text
