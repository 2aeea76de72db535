"""Every DiffBIR workflow as shipped, run to an image by ComfyUI's own executor.

Only the three loaders are replaced: a tiny real UNet and control, and stand-ins for the VAE, the
text encoder and stage 1. Every other node and link is the file's, and every setting but two that
cost time: the number of steps and the least size to work at.
"""

from __future__ import annotations

import asyncio
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

pytestmark = pytest.mark.host

API = Path(__file__).parent.parent.parent / "workflows" / "api"
STEPS = 2
WIDTH, HEIGHT = 28, 24
SIZES = {
    "diffbir_v2_upscale": (4 * WIDTH, 4 * HEIGHT),
    "diffbir_v2.1_upscale": (4 * WIDTH, 4 * HEIGHT),
    "diffbir_denoise": (WIDTH, HEIGHT),
    "diffbir_face": (2 * WIDTH, 2 * HEIGHT),
}


class TinyText:
    """A CLIP of no layers: every text becomes its own seeded tokens."""

    seen: list[str] = []  # noqa: RUF012

    def tokenize(self, text: str) -> str:
        self.seen.append(text)
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> list:
        shape = (1, 7, SMALL["context_dim"])
        return [[torch.from_numpy(seeded.random_input(3, tokens or "empty", shape)), {}]]


class Blocks:
    """A VAE of no layers: a cell is the mean of its 8 x 8 pixels."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        cells = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([cells, cells.mean(1, keepdim=True)], 1) * 4 - 2

    def decode(self, cells: torch.Tensor) -> torch.Tensor:
        pixels = (cells[:, :3] + 2) / 4
        return pixels.repeat_interleave(8, -1).repeat_interleave(8, -2).movedim(1, -1)


class Enlarge(torch.nn.Module):
    """A stage 1 that only counts."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.scale, self.shapes = scale, []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(pixels.shape))
        large = pixels.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)
        return self.gain * large


def stage1(scale: int) -> Any:
    from spandrel import ImageModelDescriptor
    from spandrel.architectures.ESRGAN import ESRGANArch

    network = Enlarge(scale)
    return ImageModelDescriptor(
        network,
        network.state_dict(),
        architecture=ESRGANArch(),
        purpose="SR",
        tags=[],
        supports_half=False,
        supports_bfloat16=False,
        scale=scale,
        input_channels=3,
        output_channels=3,
    )


@pytest.fixture(scope="module")
def networks(comfy) -> SimpleNamespace:
    from restoration.diffbir.checkpoint import layout
    from restoration.host.control import diffbir_control

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
    """The host's node table with ours in it and the loaders replaced; gives the stage-1 networks
    by file name."""
    from restoration.workflows.build import host_definitions

    table = comfy.nodes.NODE_CLASS_MAPPINGS
    before = dict(table)
    table.update(host_definitions())
    used: dict[str, Any] = {}

    def loader(name: str, types: tuple[str, ...], load: Any) -> None:
        body = {
            "INPUT_TYPES": classmethod(lambda cls: {"required": {name: ("STRING", {})}}),
            "RETURN_TYPES": types,
            "FUNCTION": "load",
            "load": lambda self, **given: load(given[name]),
        }
        kind = {"ckpt_name": "CheckpointLoaderSimple", "model_name": "UpscaleModelLoader"}
        table[kind.get(name, "DiffBIRControlLoader")] = type("Loader", (), body)

    def base(file: str) -> tuple:
        model = networks.v if "zsnr" in file else networks.eps
        return model, TinyText(), Blocks()

    def stage(file: str) -> tuple:
        used[file] = stage1(4 if file == "BSRNet.pth" else 1)
        return (used[file],)

    loader("ckpt_name", ("MODEL", "CLIP", "VAE"), base)
    loader("model_name", ("UPSCALE_MODEL",), stage)
    loader("control_net_name", ("CONTROL_NET",), lambda file: (networks.control,))
    TinyText.seen.clear()
    yield used
    table.clear()
    table.update(before)


class Server:
    """What the executor reports to."""

    client_id = None
    last_node_id = None
    last_prompt_id = None

    def __init__(self) -> None:
        self.sockets_metadata: dict = {}

    def send_sync(self, event: str, data: Any, sid: Any = None) -> None: ...


def run(comfy, prompt: dict[str, Any]) -> np.ndarray:
    """The saved picture, H W 3 uint8."""
    import execution

    valid, error, outputs, problems = asyncio.run(execution.validate_prompt("0", prompt, None))
    assert valid, (error, problems)
    try:
        executor = execution.PromptExecutor(Server(), cache_args={"lru": 0, "ram": 0})
    except TypeError:
        executor = execution.PromptExecutor(
            Server(), cache_type=execution.CacheType.CLASSIC, cache_size=0
        )
    executor.execute(prompt, "0", {}, outputs)
    if not executor.success:
        raise RuntimeError(str(executor.status_messages))
    (save,) = (key for key, node in prompt.items() if node["class_type"] == "SaveImage")
    (image,) = executor.history_result["outputs"][save]["images"]
    folder = Path(comfy.folder_paths.get_output_directory()) / image["subfolder"]
    return np.asarray(Image.open(folder / image["filename"]))


def photo(comfy, faces: int = 0) -> str:
    """A picture in the input folder; its alpha is the mask that the editor would paint."""
    coarse = np.random.default_rng(5).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for index in range(faces):
        alpha[4:20, 1 + 14 * index : 13 + 14 * index] = 0
    picture.putalpha(Image.fromarray(alpha))
    folder = Path(comfy.folder_paths.get_input_directory())
    folder.mkdir(parents=True, exist_ok=True)
    name = f"photo_{faces}.png"
    picture.save(folder / name)
    return name


def shipped(name: str, image: str) -> dict[str, Any]:
    prompt = json.loads((API / f"{name}.json").read_text("utf-8"))
    for node in prompt.values():
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = image
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = STEPS
        if "min_side" in node["inputs"]:
            assert node["inputs"]["min_side"] == 512
            node["inputs"]["min_side"] = 64
    return prompt


@pytest.mark.parametrize("name", sorted(set(SIZES) - {"diffbir_face"}))
def test_runs_to_an_image_of_exactly_the_asked_size(comfy, stages, name: str) -> None:
    image = run(comfy, shipped(name, photo(comfy)))
    assert image.shape[1::-1] == SIZES[name]
    assert image.std() > 1
    assert all(stage.model.shapes for stage in stages.values())


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


def test_every_painted_face_is_restored_and_nothing_else_changes(comfy, stages) -> None:
    prompt = shipped("diffbir_face", photo(comfy, faces=2))
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
