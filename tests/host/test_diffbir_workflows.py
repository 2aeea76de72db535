"""Every DiffBIR workflow as shipped, run to an image by ComfyUI's own executor.

Only the three loaders are replaced: a tiny real UNet and control, and stand-ins for the VAE, the
text encoder and stage 1. Every other node and link is the file's, and every setting but two that
cost time: the number of steps and the least size to work at.
"""

from __future__ import annotations

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

SIZES = {
    "diffbir_v2_upscale": (4 * WIDTH, 4 * HEIGHT),
    "diffbir_v2.1_upscale": (4 * WIDTH, 4 * HEIGHT),
    "diffbir_denoise": (WIDTH, HEIGHT),
    "diffbir_face": (2 * WIDTH, 2 * HEIGHT),
}


@pytest.fixture(scope="module")
def networks(comfy) -> SimpleNamespace:
    from restoration.diffbir.keys import layout
    from restoration.diffbir.load import diffbir_control

    config = control_config(SMALL)
    weights = seeded.state_dict(11, layout(config))
    unet = ldm_unet_config(SMALL)
    return SimpleNamespace(
        eps=unet_model(unet),
        v=unet_model(unet, prediction="v", zsnr=True),
        control=diffbir_control({k: torch.from_numpy(v) for k, v in weights.items()}, config),
    )


@pytest.fixture
def stages(comfy, networks):
    """The loaders replaced; gives the stage-1 networks by file name."""
    used: dict[str, Any] = {}

    def base(file: str) -> tuple:
        model = networks.v if "zsnr" in file else networks.eps
        return model, TinyText(), Blocks()

    def stage(file: str) -> tuple:
        used[file] = stage1(4 if file == "BSRNet.pth" else 1)
        return (used[file],)

    loaders = {
        "CheckpointLoaderSimple": ("ckpt_name", ("MODEL", "CLIP", "VAE"), base),
        "UpscaleModelLoader": ("model_name", ("UPSCALE_MODEL",), stage),
        "DiffBIRControlLoader": (
            "control_net_name",
            ("CONTROL_NET",),
            lambda file: (networks.control,),
        ),
    }
    with replaced_loaders(comfy, loaders):
        yield used


@pytest.fixture
def quick_attention(comfy, monkeypatch) -> None:
    """That of cards. The host's default on the CPU takes four times as long at the size of faces."""
    import comfy.ldm.modules.attention as attention

    for name in ("optimized_attention", "optimized_attention_masked"):
        monkeypatch.setattr(attention, name, attention.attention_pytorch)


@pytest.mark.parametrize("name", sorted(set(SIZES) - {"diffbir_face"}))
def test_runs_to_an_image_of_exactly_the_asked_size(comfy, stages, name: str) -> None:
    image = run(comfy, shipped(name, photo(comfy)))
    assert image.shape[1::-1] == SIZES[name]
    assert image.std() > 1
    assert all(stage.model.shapes for stage in stages.values())


def test_the_dial_goes_from_free_to_the_picture_of_stage_1(comfy, stages) -> None:
    def turned(fidelity: float) -> np.ndarray:
        prompt = shipped("diffbir_v2_all_nodes", photo(comfy))
        (dial,) = (n for n in prompt.values() if n["class_type"] == "RestorationFidelity")
        dial["inputs"]["fidelity"] = fidelity
        return run(comfy, prompt).astype(int)

    source = Path(comfy.folder_paths.get_input_directory()) / photo(comfy)
    pixels = np.asarray(Image.open(source).convert("RGB"), int)
    stage_1 = pixels.repeat(4, 0).repeat(4, 1)
    away = [np.abs(turned(f) - stage_1).mean() for f in (0.0, 0.5, 0.75, 1.0)]
    assert np.abs(turned(1.0) - stage_1).max() <= 1
    assert away[1] > away[2] > away[3]  # the final blend; below 0.5 only the control is weaker
    assert not np.array_equal(turned(0.0), turned(0.5))


def test_texts_are_the_authors(comfy, stages) -> None:
    run(comfy, shipped("diffbir_v2_upscale", photo(comfy)))
    assert sorted(TinyText.seen) == [
        "",
        "low quality, blurry, low-resolution, noisy, unsharp, weird textures",
    ]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("diffbir_v2_upscale", (1, 3, HEIGHT, WIDTH)),  # BSRNet sees the photo as it is
        ("diffbir_v2.1_upscale", (1, 3, 128, 128)),  # SwinIR the padded working picture
        ("diffbir_denoise", (1, 3, HEIGHT, WIDTH)),
    ],
)
def test_stage_1_sees_what_the_authors_give_it(comfy, stages, name: str, shape: tuple) -> None:
    prompt = shipped(name, photo(comfy))
    for node in prompt.values():
        if "tile_size" in node["inputs"]:
            node["inputs"]["tile_size"] = 0
    run(comfy, prompt)
    (stage,) = stages.values()
    assert stage.model.shapes == [shape]


def test_control_matters(comfy, stages) -> None:
    prompt = shipped("diffbir_v2_upscale", photo(comfy))
    first = run(comfy, prompt)
    for node in prompt.values():
        if node["class_type"] == "LAControlApply":
            node["inputs"]["strength"] = 0.5
    weaker = run(comfy, prompt)
    assert (first != weaker).any()


def test_every_painted_face_is_restored_and_nothing_else_changes(
    comfy, stages, quick_attention
) -> None:
    prompt = shipped("diffbir_face", photo(comfy, faces=2))
    (crop,) = (n["inputs"] for n in prompt.values() if n["class_type"] == "RestorationFaceCrop")
    (crop["mask"],) = (
        n["inputs"].pop("transparency") for n in prompt.values() if "transparency" in n["inputs"]
    )
    pasted = run(comfy, prompt)
    (paste,) = (k for k, n in prompt.items() if n["class_type"] == "RestorationFacePaste")
    save = next(n for n in prompt.values() if n["class_type"] == "SaveImage")
    save["inputs"]["images"] = prompt[paste]["inputs"]["image"]
    background = run(comfy, prompt)
    assert pasted.shape[1::-1] == SIZES["diffbir_face"]
    different = (pasted != background).any(-1)
    assert stages["face_swinir_v1.ckpt"].model.shapes == [(1, 3, 512, 512)] * 2
    assert different[14:34, 6:22].mean() > 0.5 and different[14:34, 34:50].mean() > 0.5
    assert not different[-1].all()


def test_without_a_face_the_photo_is_restored_and_the_face_group_is_skipped(
    comfy, stages, monkeypatch, caplog
) -> None:
    import restoration.nodes.faces as faces

    monkeypatch.setattr(faces, "detect_faces", lambda pixels, confidence: [[]] * len(pixels))
    prompt = shipped("diffbir_face", photo(comfy))
    image = run(comfy, prompt)
    assert image.shape[1::-1] == SIZES["diffbir_face"]
    assert "no face found" in caplog.text
    assert "face_swinir_v1.ckpt" not in stages or not stages["face_swinir_v1.ckpt"].model.shapes
    assert stages["BSRNet.pth"].model.shapes


def test_a_missing_detector_says_what_to_do(comfy, stages) -> None:
    prompt = shipped("diffbir_face", photo(comfy))
    with pytest.raises(RuntimeError, match=r"yunet_2023mar.onnx.*Get it from.*mask"):
        run(comfy, prompt)
