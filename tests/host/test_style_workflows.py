"""Every workflow of StyleID and DDNM as shipped, run to an image by ComfyUI's own executor.

The loaders are replaced by tiny networks. Every other node, link and setting is the file's, but
for what costs time: steps, and sizes to work at.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from restoration.tests.golden import seeded
from restoration.tests.golden.runners_diffbir import control_config
from restoration.tests.host.networks import SMALL, ldm_unet_config, unet_model
from restoration.tests.host.workflow_runs import (
    API,
    HEIGHT,
    WIDTH,
    Blocks,
    TinyText,
    photo,
    replaced_loaders,
    run,
    shipped,
    stage1,
)

pytestmark = pytest.mark.host

SD_LIKE = {
    **SMALL,
    "channel_mult": [1, 2, 2, 2],
    "num_res_blocks": 2,
    "attention_resolutions": [4, 2, 1],
}
SIDE = 64
SCALED = (round(WIDTH * SIDE / HEIGHT), SIDE)
SIZES = {"styleid_transfer": SCALED, "restore_then_style": SCALED, "ddnm_inpaint": (WIDTH, HEIGHT)}


@pytest.fixture(scope="module")
def networks(comfy) -> SimpleNamespace:
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control

    config = control_config(SD_LIKE)
    weights = seeded.state_dict(11, layout(config))
    return SimpleNamespace(
        model=unet_model(ldm_unet_config(SD_LIKE)),
        control=diffbir_control({k: torch.from_numpy(v) for k, v in weights.items()}, config),
    )


@pytest.fixture
def files(comfy, networks):
    """The loaders replaced; gives the names that were asked for."""
    asked: list[str] = []

    def remembering(load: Any) -> Any:
        def loaded(file: str) -> tuple:
            asked.append(file)
            return load()

        return loaded

    base = remembering(lambda: (networks.model, TinyText(), Blocks()))
    loaders = {
        "CheckpointLoaderSimple": ("ckpt_name", ("MODEL", "CLIP", "VAE"), base),
        "UpscaleModelLoader": (
            "model_name",
            ("UPSCALE_MODEL",),
            remembering(lambda: (stage1(4),)),
        ),
        "DiffBIRControlLoader": (
            "control_net_name",
            ("CONTROL_NET",),
            remembering(lambda: (networks.control,)),
        ),
    }
    with replaced_loaders(comfy, loaders):
        yield asked


def small(name: str, content: str, style: str | None = None) -> dict[str, Any]:
    """The shipped file at a size of 64, with its pictures chosen."""
    prompt = shipped(name, content)
    for node in prompt.values():
        for key in ("width", "height"):
            if node["class_type"] == "ImageScale" and node["inputs"][key]:
                assert node["inputs"][key] == 512
                node["inputs"][key] = SIDE
        if style and node["_meta"]["title"] == "The style":
            node["inputs"]["image"] = style
    return prompt


def every(prompt: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [node["inputs"] for node in prompt.values() if node["class_type"] == kind]


def painting(comfy, seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 90, 3)).astype(np.uint8)
    folder = Path(comfy.folder_paths.get_input_directory())
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / f"painting_{seed}.png")
    return f"painting_{seed}.png"


@pytest.mark.parametrize("name", sorted(SIZES))
def test_runs_to_an_image_of_the_promised_size(comfy, files, name: str) -> None:
    image = run(comfy, small(name, photo(comfy, faces=1), painting(comfy, 1)))
    assert image.shape[1::-1] == SIZES[name]
    assert image.std() > 1
    diffbir = ["BSRNet.pth", "v2-1_512-ema-pruned.ckpt", "v2.pth"]
    sd15 = ["v1-5-pruned-emaonly-fp16.safetensors"]
    assert sorted(files) == (diffbir if name == "restore_then_style" else sd15)


@pytest.mark.parametrize("name", ["styleid_transfer", "restore_then_style"])
def test_a_transparent_photo_comes_back_transparent(comfy, files, name) -> None:
    image = run(comfy, small(name, photo(comfy, faces=1), painting(comfy, 1)))
    # Around the hole of the photo, which lies in its columns 1 to 13 and rows 4 to 20.
    wide, high = image.shape[1] / WIDTH, image.shape[0] / HEIGHT
    assert image.shape[2] == 4
    assert (
        image[round(7 * high) : round(17 * high), round(4 * wide) : round(10 * wide), 3] < 9
    ).all()
    assert (image[:, round(17 * wide) :, 3] > 246).all()


def test_settings_are_the_authors(comfy, files) -> None:
    for name in ("styleid_transfer", "restore_then_style"):
        prompt = json.loads((API / f"{name}.json").read_text("utf-8"))
        for inverted in every(prompt, "StyleIDInvert"):
            assert inverted["steps"] == 50 and inverted["convention"] == "diffusers"
        (applied,) = every(prompt, "StyleIDApply")
        assert (applied["gamma"], applied["temperature"]) == (0.75, 1.5)
        assert applied["layers"] == "6,7,8,9,10,11" and applied["adain"]
    run(comfy, small("styleid_transfer", photo(comfy), painting(comfy, 1)))
    assert TinyText.seen == [""]


@pytest.mark.parametrize("name", ["styleid_transfer", "restore_then_style"])
def test_content_and_style_both_matter(comfy, files, name) -> None:
    first, *others = (
        run(comfy, small(name, painting(comfy, content), painting(comfy, style)))
        for content, style in ((3, 1), (3, 2), (4, 1))
    )
    for other in others:
        assert (first != other).mean() > 0.2


def test_lockstep_gives_the_same_picture(comfy, files) -> None:
    found = {}
    for features in ("cpu_fp32", "lockstep"):
        prompt = small("styleid_transfer", photo(comfy), painting(comfy, 1))
        for inverted in every(prompt, "StyleIDInvert"):
            inverted["features"] = features
        for scaled in every(prompt, "ImageScale"):
            scaled["width"] = scaled["width"] and 2 * SIDE  # as wide as the prepared photo
        found[features] = run(comfy, prompt).astype(int)
    assert abs(found["lockstep"] - found["cpu_fp32"]).max() <= 1


def test_a_style_of_another_size_is_refused_in_lockstep(comfy, files) -> None:
    prompt = small("styleid_transfer", photo(comfy), painting(comfy, 1))
    for inverted in every(prompt, "StyleIDInvert"):
        inverted["features"] = "lockstep"
    with pytest.raises(RuntimeError, match="In lockstep content and style must have one size"):
        run(comfy, prompt)


def test_only_the_painted_damage_changes(comfy, files) -> None:
    name = photo(comfy, faces=1)
    before = np.asarray(Image.open(Path(comfy.folder_paths.get_input_directory()) / name))
    prompt = small("ddnm_inpaint", name)
    (grown,) = every(prompt, "GrowMask")
    grown["expand"] = 1
    after = run(comfy, prompt)
    hole = before[..., 3] == 0
    around = hole.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            around |= np.roll(hole, step, axis)
    difference = abs(after.astype(int) - before[..., :3]).max(-1)
    assert difference[~around].max() <= 1
    assert (difference[hole] > 1).mean() > 0.5


def test_the_filling_fits_the_photo_because_of_ddnm(comfy, files) -> None:
    """Without the projection the hole is filled with something else."""
    prompt = small("ddnm_inpaint", photo(comfy, faces=1))
    filled = run(comfy, prompt)
    (guided,) = every(prompt, "DDNMGuidance")
    assert guided["degradation"] == "inpaint" and guided["strength"] == 1
    guided["strength"] = 0.0
    assert (run(comfy, prompt) != filled).any()


def test_without_damage_the_photo_comes_back(comfy, files) -> None:
    name = photo(comfy)
    before = np.asarray(Image.open(Path(comfy.folder_paths.get_input_directory()) / name))
    after = run(comfy, small("ddnm_inpaint", name))
    assert abs(after.astype(int) - before[..., :3]).max() <= 1
