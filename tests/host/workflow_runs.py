"""Running shipped workflows to an image by ComfyUI's own executor, with stand-ins for what their
loaders would read: everything else is the file's."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from restoration.tests.golden import seeded
from restoration.tests.host.networks import SMALL
from restoration.tools.folder.workflow import LOADS

API = Path(__file__).parent.parent.parent / "workflows" / "api"
STEPS = 2
WIDTH, HEIGHT = 28, 24


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


@contextmanager
def replaced_loaders(
    comfy: Any, loaders: dict[str, tuple[str, tuple[str, ...], Callable[[str], tuple]]]
) -> Iterator[None]:
    """The host's node table with ours in it, some loaders replaced.

    loaders: {node id: (its input with the file name, output types, file name -> outputs)}.
    Further inputs of a loader are accepted and passed over.
    """
    definitions = _definitions()  # loading core's extra nodes fills the table: before it is copied
    table = comfy.nodes.NODE_CLASS_MAPPINGS
    before = dict(table)
    table.update(definitions)
    for kind, (name, types, load) in loaders.items():
        inputs = {
            group: {key: ("*" if key != name else "STRING", {}) for key in entries}
            for group, entries in table[kind].INPUT_TYPES().items()
            if group in ("required", "optional")
        }
        body = {
            "INPUT_TYPES": classmethod(lambda cls, inputs=inputs: inputs),
            "VALIDATE_INPUTS": classmethod(lambda cls, input_types: True),
            "RETURN_TYPES": types,
            "FUNCTION": "load",
            "load": lambda self, load=load, name=name, **given: load(given[name]),
        }
        table[kind] = type("Loader", (), body)
    TinyText.seen.clear()
    try:
        yield
    finally:
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


def executor_of(server: Server) -> Any:
    """ComfyUI's own, of either host, with a cache of the last run."""
    import execution

    try:
        return execution.PromptExecutor(server, cache_args={"lru": 0, "ram": 0})
    except TypeError:
        kind = execution.CacheType.CLASSIC
        return execution.PromptExecutor(server, cache_type=kind, cache_size=0)


def run(comfy, prompt: dict[str, Any]) -> np.ndarray:
    """The saved picture, H W 3 uint8."""
    import execution

    valid, error, outputs, problems = asyncio.run(execution.validate_prompt("0", prompt, None))
    assert valid, (error, problems)
    executor = executor_of(Server())
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


@functools.cache
def _definitions() -> dict[str, Any]:
    from restoration.drawing.definitions import host_definitions

    return host_definitions()


def as_shipped(name: str, image: str = "example.png") -> dict[str, Any]:
    """The file, with a picture chosen."""
    prompt = json.loads((API / f"{name}.json").read_text("utf-8"))
    for node in prompt.values():
        if node["class_type"] in LOADS:
            node["inputs"]["image"] = image
    return prompt


def opened(prompt: dict[str, Any]) -> dict[str, Any]:
    """With every Restore node replaced by the nodes of its recipe."""
    from restoration.drawing.definitions import defaults_of
    from restoration.nodes.restore import NODES

    kinds = {each.define_schema().node_id: each for each in NODES}
    found: dict[str, Any] = {}
    results = {}
    for number, node in prompt.items():
        if node["class_type"] not in kinds:
            found[number] = node
            continue
        graph = kinds[node["class_type"]].graph(**node["inputs"])
        for name, each in graph.items():
            defaults = defaults_of(each["class_type"], _definitions())
            inside = {
                key: [f"{number} {value[0]}", value[1]]
                if isinstance(value, list) and value[0] in graph
                else value
                for key, value in each["inputs"].items()
            }
            found[f"{number} {name}"] = {
                "class_type": each["class_type"],
                "inputs": defaults | inside,
                "_meta": each.get("_meta", {"title": name}),
            }
        results[number] = f"{number} {next(reversed(graph))}"
    for node in found.values():
        for key, value in node["inputs"].items():
            if isinstance(value, list) and value[0] in results:
                node["inputs"][key] = [results[value[0]], value[1]]
    return found


def shipped(name: str, image: str) -> dict[str, Any]:
    """The file with its Restore nodes opened, in few steps on a small picture."""
    prompt = opened(as_shipped(name, image))
    for node in prompt.values():
        if node["inputs"].get("steps", 1) > 1:  # a one-step model takes one
            node["inputs"]["steps"] = STEPS
        if node["inputs"].get("min_side"):
            assert node["inputs"]["min_side"] >= 512
            node["inputs"]["min_side"] = 64
    return prompt
