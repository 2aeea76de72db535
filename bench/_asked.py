"""What a graph asks of the networks: read off the recipes' nodes, nothing typed in again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

Graph = dict[str, dict[str, Any]]


class Call(NamedTuple):
    """One row through a network."""

    network: str
    height: int
    """In pixels of the picture, of a tile where there are tiles."""
    width: int


CONTROLLED = {"PACAControlApply": "pasd", "SeeSRControlApply": "seesr"}
"""Nodes behind which a step runs more than the UNet -> the name of the step."""


class Asked:
    """The calls of one run of a graph over a photo of one size."""

    def __init__(self, graph: Graph, photo: tuple[int, int]) -> None:
        """photo: height and width in pixels."""
        self.graph, self.photo = graph, photo
        self.calls: Counter[Call] = Counter()
        for each in graph.values():
            self._count(each["class_type"], each["inputs"])

    @property
    def working(self) -> tuple[int, int]:
        """Height and width of the picture that is worked on."""
        from restoration.common.sizing import prepare

        (inputs,) = (n["inputs"] for n in self.graph.values() if n["class_type"] == PREPARE)
        _, info = prepare(
            torch.zeros(1, *self.photo, 3),
            *(inputs[name] for name in ("upscale_by", "min_side", "multiple", "fit")),
        )
        return info.working_size

    def steps(self) -> tuple[int, int]:
        """Steps of the run, and how many of them ask the network twice, for guidance."""
        steps = guided = 0
        for each in self.graph.values():
            if each["class_type"] in ("SamplerCustomAdvanced", "KSampler"):
                _, levels = self._levels(each)
                steps, guided = len(levels), sum(levels)
        return steps, guided

    def tiles(self) -> int:
        """How many parts of the picture a step takes by themselves."""
        for each in self.graph.values():
            if each["class_type"] in ("SamplerCustomAdvanced", "KSampler"):
                return len(list(self._tiles(self._levels(each)[0])))
        return 0

    def _count(self, kind: str, inputs: dict[str, Any]) -> None:
        from restoration.nodes.restoration import DegradationRemover, RestorationEnlarge

        match kind:
            case "DegradationRemover":
                self._in_tiles("stage 1", DegradationRemover, inputs)
            case "RestorationEnlarge":
                if inputs["upscale_by"] > 2:  # the network for x4
                    self._in_tiles("enlarge", RestorationEnlarge, inputs)
            case "DAPETagger":
                self.calls[Call("tagger", *self._size_of(inputs["image"]))] += 1
            case "VAEEncode" | "TiledVAEEncodeExact":
                self.calls[Call("encode", *self.working)] += 1
            case "VAEDecode" | "TiledVAEDecodeExact":
                name = "decode, TAESD" if inputs["vae"] == "decode_vae" else "decode"
                self.calls[Call(name, *self.working)] += 1
            case "SamplerCustomAdvanced" | "KSampler":
                self._sampled({"class_type": kind, "inputs": inputs})
            case _:
                pass

    def _size_of(self, image: Any) -> tuple[int, int]:
        """The photo's size before `prepare`, the working size behind it."""
        while isinstance(image, list):
            node = self.graph.get(image[0])
            if node is None:
                break
            if node["class_type"] == PREPARE:
                return self.working
            image = node["inputs"].get("image")
        return self.photo

    def _in_tiles(self, network: str, node: Any, inputs: dict[str, Any]) -> None:
        from restoration.stage1.restorer import restoration_tiles

        given = defaults(node) | inputs
        picture = torch.empty(1, 3, *self._size_of(given["image"]))
        for tile in restoration_tiles(picture, given["tile_size"], given["tile_overlap"]):
            self.calls[Call(network, tile.height, tile.width)] += 1

    def _sampled(self, node: dict[str, Any]) -> None:
        chain, levels = self._levels(node)
        name = next((CONTROLLED[k] for k in chain if k in CONTROLLED), "plain")
        if any(each["class_type"] == "LAControlApply" for each in self.graph.values()):
            name = "diffbir"
        dials = chain.get("PiSASRApply")
        if dials and dials["lambda_pix"] != dials["lambda_sem"]:
            name = "dials"
        for height, width in self._tiles(chain):
            self.calls[Call(name, height, width)] += len(levels) + sum(levels)
            if name in CONTROLLED.values():
                self.calls[Call(f"{name}, picture", height, width)] += 1

    def _tiles(self, chain: dict[str, dict[str, Any]]) -> Iterator[tuple[int, int]]:
        from restoration.common.tiling import plan_tiles
        from restoration.host.view import PIXELS_PER_CELL as CELL

        height, width = self.working
        tiled = chain.get("TiledRestoration")
        side, overlap = (tiled["tile_size"], tiled["tile_overlap"]) if tiled else (2**20, 0)
        for tile in plan_tiles(height // CELL, width // CELL, side // CELL, overlap // CELL):
            yield tile.height * CELL, tile.width * CELL

    def _levels(self, node: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[bool]]:
        """The nodes that the sampled model comes through, and of every step whether it is guided."""
        inputs = node["inputs"]
        if node["class_type"] == "KSampler":
            chain = self._chain(inputs["model"])
            return chain, [inputs["cfg"] != 1] * inputs["steps"]
        guider = self.graph[inputs["guider"][0]]["inputs"]
        chain = self._chain(guider["model"])
        return chain, self._guided(self.graph[inputs["sigmas"][0]]["inputs"], chain, guider["cfg"])

    def _chain(self, model: Any) -> dict[str, dict[str, Any]]:
        found = {}
        while isinstance(model, list):
            node = self.graph[model[0]]
            found[node["class_type"]] = node["inputs"]
            model = node["inputs"].get("model")
        return found

    def _guided(
        self, sigmas: dict[str, Any], chain: dict[str, dict[str, Any]], cfg: float
    ) -> list[bool]:
        from comfy.samplers import calculate_sigmas

        from restoration import registry
        from restoration.host.sampling import in_range, restoration_sigmas
        from restoration.nodes.guidance import DiffBIRModelSampling
        from restoration.tests.host.networks import SMALL, empty_unet, ldm_unet_config

        version = chain.get("DiffBIRModelSampling")
        model = empty_unet(ldm_unet_config(SMALL), "v" if version else "eps", bool(version))
        if version:
            (model,) = DiffBIRModelSampling.execute(model, version["version"]).result
        sampling = model.get_model_object("model_sampling")
        if "scheduler" in sigmas:  # core's BasicScheduler
            levels = calculate_sigmas(sampling, sigmas["scheduler"], sigmas["steps"])[:-1]
        else:
            schedule = registry.schedules()[sigmas["schedule"]]
            levels = restoration_sigmas(model, schedule, sigmas["steps"])[:-1]
        limits = chain.get("RestorationCFG", {"start_percent": 0.0, "end_percent": 1.0})
        percent = (limits["start_percent"], limits["end_percent"])
        return [cfg != 1 and in_range(sampling, float(level), percent) for level in levels]


PREPARE = "RestorationPrepare"


def defaults(node: Any) -> dict[str, Any]:
    """What the widgets of one of our nodes say before they are touched."""
    inputs = node.define_schema().inputs
    return {each.id: each.default for each in inputs if getattr(each, "default", None) is not None}
