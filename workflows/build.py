"""Writes the workflows of DiffBIR, in the form for people and in the form for programs.

Both forms come from one description, so they cannot differ. Run after a node has changed:
python workflows/build.py [COMFYUI_FOLDER]
"""

from __future__ import annotations

import importlib.util
import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = Path(__file__).parent

Json = dict[str, Any]
Definitions = Mapping[str, Any]
"""Node classes of the host by id."""

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
PICTURES = {"LoadImage": 340, "PreviewImage": 340, "SaveImage": 400}
"""Height that the frontend needs to show a picture."""
GROUP_COLORS = ("#3f789e", "#b58b2a", "#8A8", "#88A", "#a1309b", "#3f789e")
WIDTH, GAP, TITLE = 320, 60, 30

HF = "https://huggingface.co"
KAIR = "https://github.com/cszn/KAIR/releases/download/v1.0"
FILES = {
    "v2-1_512-ema-pruned.safetensors": (
        f"{HF}/stabilityai/stable-diffusion-2-1-base/resolve/main/v2-1_512-ema-pruned.safetensors",
        "checkpoints",
    ),
    "sd2.1-base-zsnr-laionaes5.ckpt": (
        f"{HF}/lxq007/DiffBIR-v2/resolve/main/sd2.1-base-zsnr-laionaes5.ckpt",
        "checkpoints",
    ),
    "v2.pth": (f"{HF}/lxq007/DiffBIR-v2/resolve/main/v2.pth", "controlnet"),
    "DiffBIR_v2.1.pt": (f"{HF}/lxq007/DiffBIR-v2/resolve/main/DiffBIR_v2.1.pt", "controlnet"),
    "BSRNet.pth": (f"{KAIR}/BSRNet.pth", "upscale_models"),
    "scunet_color_real_psnr.pth": (f"{KAIR}/scunet_color_real_psnr.pth", "upscale_models"),
    "realesrgan_s4_swinir_100k.pth": (
        f"{HF}/lxq007/DiffBIR-v2/resolve/main/realesrgan_s4_swinir_100k.pth",
        "upscale_models",
    ),
    "face_swinir_v1.ckpt": (
        f"{HF}/lxq007/DiffBIR/resolve/main/face_swinir_v1.ckpt",
        "upscale_models",
    ),
    "face_detection_yunet_2023mar.onnx": (
        f"{HF}/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2023mar.onnx",
        "restoration",
    ),
}
"""Weight files as published: where from, and the model folder they go to."""


@dataclass(frozen=True)
class Slot:
    """An output of a node."""

    node: int
    index: int


@dataclass
class Node:
    """One node: its place, and what it is given."""

    id: int
    kind: str
    title: str | None
    inputs: dict[str, Any]
    models: tuple[str, ...]
    pos: tuple[int, int]
    size: tuple[int, int]

    def __getitem__(self, index: int) -> Slot:
        return Slot(self.id, index)


def _described(kind: str, definitions: Definitions) -> list[tuple[str, str, Json, bool]]:
    """(name, type, options, optional) of every input, as the host tells it."""
    types = definitions[kind].INPUT_TYPES()
    rows = []
    for group in ("required", "optional"):
        for name, spec in types.get(group, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            type_name = "COMBO" if isinstance(spec[0], list | tuple) else spec[0]
            rows.append((name, type_name, options, group == "optional"))
    return rows


def _is_widget(type_name: str, options: Json) -> bool:
    return type_name in WIDGETS and not options.get("forceInput")


@dataclass
class Graph:
    """A workflow, written from left to right: groups of columns of nodes."""

    name: str
    definitions: Definitions
    nodes: list[Node] = field(default_factory=list)
    groups: list[Json] = field(default_factory=list)
    note: str = ""
    x: int = 560
    y: int = 0

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Nodes added inside stand in one frame."""
        first, left = len(self.nodes), self.x
        self.y = 0
        yield
        members = self.nodes[first:]
        bottom = max(node.pos[1] + node.size[1] for node in members)
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [left - 20, -80, self.x + WIDTH - left + 40, bottom + 100],
                "color": GROUP_COLORS[len(self.groups) % len(GROUP_COLORS)],
                "font_size": 24,
                "flags": {},
            }
        )
        self.x += WIDTH + GAP + 20

    def column(self) -> None:
        """The next nodes stand to the right."""
        self.x, self.y = self.x + WIDTH + 40, 0

    def add(self, kind: str, title: str | None = None, **inputs: Any) -> Node:
        rows = _described(kind, self.definitions)
        widgets = [(name, o) for name, t, o, _ in rows if _is_widget(t, o)]
        sockets = sum(1 for _, t, o, _ in rows if not _is_widget(t, o))
        outputs = len(self.definitions[kind].RETURN_TYPES)
        height = 20 + 20 * max(sockets, outputs)
        height += sum(110 if o.get("multiline") else 28 for _, o in widgets)
        height += PICTURES.get(kind, 0)
        models = tuple(value for value in inputs.values() if value in FILES) if inputs else ()
        if kind == "RestorationFaceCrop":
            models = ("face_detection_yunet_2023mar.onnx",)
        node = Node(
            len(self.nodes) + 2, kind, title, inputs, models, (self.x, self.y), (WIDTH, height)
        )
        self.nodes.append(node)
        self.y += height + TITLE + 40
        return node

    def api(self) -> Json:
        """{id: class_type, inputs}: what the host runs."""
        return {
            str(node.id): {
                "inputs": {
                    name: [str(value.node), value.index] if isinstance(value, Slot) else value
                    for name, value in self._values(node).items()
                },
                "class_type": node.kind,
                "_meta": {"title": self._title(node)},
            }
            for node in self.nodes
        }

    def _values(self, node: Node) -> Json:
        """Every widget's value, the schema's default where none is given, and every link."""
        values, given = {}, dict(node.inputs)
        for name, type_name, options, _ in _described(node.kind, self.definitions):
            if name in given:
                values[name] = given.pop(name)
            elif _is_widget(type_name, options):
                values[name] = options["default"]
        if given:
            raise ValueError(f"{node.kind} has no input {', '.join(given)}")
        return values

    def _title(self, node: Node) -> str:
        if node.title:
            return node.title
        schema = getattr(self.definitions[node.kind], "GET_SCHEMA", None)
        found = schema().display_name if schema else None
        return found or DISPLAY_NAMES.get(node.kind, node.kind)

    def ui(self) -> Json:
        """What the frontend loads."""
        links: list[list[Any]] = []
        consumers: dict[Slot, list[int]] = {}
        drawn = []
        for order, node in enumerate(self.nodes, 1):
            values = self._values(node)
            rows = _described(node.kind, self.definitions)
            rows = sorted(rows, key=lambda row: _is_widget(row[1], row[2]))  # sockets first
            inputs, stored = [], []
            for slot, (name, type_name, options, optional) in enumerate(rows):
                entry: Json = {"name": name, "type": type_name, "link": None}
                if optional:
                    entry["shape"] = 7
                if _is_widget(type_name, options):
                    entry["widget"] = {"name": name}
                value = values.get(name)
                if isinstance(value, Slot):
                    source = self.nodes[value.node - 2]
                    kind = self.definitions[source.kind].RETURN_TYPES[value.index]
                    link = len(links) + 1
                    links.append([link, value.node, value.index, node.id, slot, kind])
                    consumers.setdefault(value, []).append(link)
                    entry["link"] = link
                    value = options.get("default", "")
                if _is_widget(type_name, options):
                    stored.append(value)
                    if options.get("control_after_generate"):
                        stored.append("fixed")
                inputs.append(entry)
            if node.kind == "LoadImage":
                inputs.append(
                    {
                        "name": "upload",
                        "type": "IMAGEUPLOAD",
                        "widget": {"name": "upload"},
                        "link": None,
                    }
                )
                stored.append("image")
            drawn.append(self._drawn(node, order, inputs, stored))
        for shown, node in zip(drawn, self.nodes, strict=True):
            for index, output in enumerate(shown["outputs"]):
                output["links"] = consumers.get(node[index])
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"diffusion-restoration/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes) + 1,
            "last_link_id": len(links),
            "nodes": [self._note(), *drawn],
            "links": links,
            "groups": self.groups,
            "extra": {"ds": {"scale": 0.5, "offset": [110, 170]}},
            "version": 0.4,
        }

    def _drawn(self, node: Node, order: int, inputs: list[Json], stored: list[Any]) -> Json:
        definition = self.definitions[node.kind]
        names = getattr(definition, "RETURN_NAMES", None) or definition.RETURN_TYPES
        ours = definition.__module__.startswith("restoration.") or "diffusion" in str(
            getattr(definition, "RELATIVE_PYTHON_MODULE", "")
        )
        properties: Json = {
            "cnr_id": "diffusion-restoration" if ours else "comfy-core",
            "ver": "0.1.0" if ours else "0.3.64",
            "Node name for S&R": node.kind,
        }
        if node.models:
            properties["models"] = [
                {"name": name, "url": FILES[name][0], "directory": FILES[name][1]}
                for name in node.models
            ]
        return {
            "id": node.id,
            "type": node.kind,
            "pos": list(node.pos),
            "size": list(node.size),
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": inputs,
            "outputs": [
                {"name": name, "type": kind}
                for name, kind in zip(names, definition.RETURN_TYPES, strict=True)
            ],
            **({"title": node.title} if node.title else {}),
            "properties": properties,
            "widgets_values": stored,
        }

    def _note(self) -> Json:
        return {
            "id": 1,
            "type": "MarkdownNote",
            "pos": [0, 0],
            "size": [500, 760],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "title": "Read me",
            "properties": {},
            "widgets_values": [self.note],
            "color": "#432",
            "bgcolor": "#653",
        }


DISPLAY_NAMES = {
    "LoadImage": "Load Image",
    "CheckpointLoaderSimple": "Load Checkpoint",
    "UpscaleModelLoader": "Load Upscale Model",
    "CLIPTextEncode": "CLIP Text Encode (Prompt)",
    "VAEEncode": "VAE Encode",
    "VAEDecode": "VAE Decode",
    "SaveImage": "Save Image",
    "PreviewImage": "Preview Image",
}

BASE_V2 = "v2-1_512-ema-pruned.safetensors"
BASE_V21 = "sd2.1-base-zsnr-laionaes5.ckpt"
SEED = 231
"""The authors' seed; ComfyUI draws other noise from it than their program."""


@dataclass(frozen=True)
class Version:
    """Weights of one release and the settings its authors give for them."""

    base: str
    control: str
    style: str
    schedule: str
    steps: int
    cfg: float


V2 = Version(BASE_V2, "v2.pth", "diffbir_v2", "diffbir_spaced", 50, 4.0)
V21 = Version(BASE_V21, "DiffBIR_v2.1.pt", "diffbir_v2.1", "diffbir_edm", 10, 6.0)


@dataclass
class Loaded:
    """What the model group gives to the others."""

    model: Slot
    vae: Slot
    control: Slot
    positive: Slot
    negative: Slot
    sampler: Slot
    sigmas: Slot


def _models(g: Graph, version: Version) -> Loaded:
    """Base, control, prompt and the authors' steps: shared by all pictures of a workflow."""
    with g.group("2  Models and prompt"):
        base = g.add("CheckpointLoaderSimple", ckpt_name=version.base)
        control = g.add("DiffBIRControlLoader", control_net_name=version.control)
        model = base[0]
        if version is V21:
            model = g.add("DiffBIRModelSampling", model=model, version="v2.1")[0]
        sigmas = g.add(
            "RestorationSigmas", model=model, schedule=version.schedule, steps=version.steps
        )
        if version is V21:
            sampler = g.add("KSamplerSelect", sampler_name="dpmpp_3m_sde")
        else:
            sampler = g.add("RestorationSampler", sampler_name="diffbir_spaced")
        g.column()
        prompt = g.add("RestorationPrompt", style=version.style)
        texts = [
            g.add("CLIPTextEncode", title, clip=base[1], text=prompt[index])
            for index, title in enumerate(("Positive prompt", "Negative prompt"))
        ]
    return Loaded(model, base[2], control[0], texts[0][0], texts[1][0], sampler[0], sigmas[0])


def _diffuse(g: Graph, loaded: Loaded, picture: Slot, cfg: float) -> Slot:
    """Stage 2: the cleaned picture steers the sampling of a new one."""
    latent = g.add("VAEEncode", pixels=picture, vae=loaded.vae)
    applied = g.add(
        "LAControlApply",
        positive=loaded.positive,
        negative=loaded.negative,
        control_net=loaded.control,
        latent=latent[0],
    )
    g.column()
    guider = g.add(
        "CFGGuider", model=loaded.model, positive=applied[0], negative=applied[1], cfg=cfg
    )
    noise = g.add(
        "LREmbeddedNoise",
        "Start from noise",
        model=loaded.model,
        latent=latent[0],
        sigmas=loaded.sigmas,
        seed=SEED,
        start="noise",
    )
    sampled = g.add(
        "SamplerCustomAdvanced",
        noise=noise[0],
        guider=guider[0],
        sampler=loaded.sampler,
        sigmas=loaded.sigmas,
        latent_image=latent[0],
    )
    return g.add("VAEDecode", samples=sampled[0], vae=loaded.vae)[0]


def _result(g: Graph, number: int, before: Slot, after: Slot, prefix: str) -> None:
    with g.group(f"{number}  Before and after"):
        g.add("PreviewImage", "Before", images=before)
        g.column()
        g.add("SaveImage", "After (saved)", images=after, filename_prefix=f"restored/{prefix}")


def _clean_first(g: Graph, version: Version, stage1: str, factor: float, prefix: str) -> None:
    """The order of BSRNet and SCUNet: clean the photo as it is, then bring it to working size."""
    with g.group("1  Your photo"):
        photo = g.add("LoadImage", image="example.png")
    loaded = _models(g, version)
    with g.group("3  Stage 1: remove degradation"):
        network = g.add("UpscaleModelLoader", model_name=stage1)
        clean = g.add("DegradationRemover", image=photo[0], upscale_model=network[0])
        ready = g.add(
            "RestorationPrepare",
            image=clean[0],
            upscale_by=factor,
            min_side=512,
            multiple=64,
            fit="black",
        )
    with g.group("4  Stage 2: diffusion"):
        decoded = _diffuse(g, loaded, ready[0], version.cfg)
        done = g.add("RestorationFinish", image=decoded, info=ready[1])
    _result(g, 5, photo[0], done[0], prefix)


NEEDS = "### Files\n\n"
DIALS = "### The three dials that matter\n\n"


def _files(*names: str) -> str:
    rows = [f"- [{name}]({FILES[name][0]}) → `models/{FILES[name][1]}`" for name in names]
    return NEEDS + "\n".join(rows) + "\n\n"


def upscale_v2(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: upscale x4\n\nStage 1 (BSRNet) removes noise, blur and compression without "
        "inventing anything and enlarges four times. Stage 2 (Stable Diffusion 2.1 with DiffBIR's "
        "control) draws the missing detail. The settings are the authors' for their paper: 50 "
        "steps, cfg 4, no positive prompt.\nChoose your photo in **Load Image**, press **Run**.\n\n"
        + _files(BASE_V2, "v2.pth", "BSRNet.pth")
        + DIALS
        + "- `cfg` in *CFGGuider*: 4. Higher gives more and harder detail, 1 the calmest result "
        "(and runs twice as fast).\n"
        "- `upscale_by` in *Prepare Restoration*: counts from BSRNet's x4. 1 is x4 of your photo, "
        "0.5 is x2.\n"
        "- `start` in *Start from noise*: *noise*, the authors' default. *diffbir* starts from the "
        "cleaned photo under noise: more stable colors, a little less detail.\n\n"
        "More faithful and smoother: put **Latent Image Guidance** between *Load Checkpoint* and "
        "*CFGGuider*.\n"
    )
    _clean_first(g, V2, "BSRNet.pth", 1.0, "diffbir_v2")


def denoise(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: denoise\n\nStage 1 (SCUNet) removes strong noise and keeps the size. Stage "
        "2 puts texture back where SCUNet left it smooth. The settings are the authors': 50 steps, "
        "cfg 4. Photos whose shorter side is below 512 are worked on at 512 and brought back.\n"
        "Choose your photo in **Load Image**, press **Run**.\n\n"
        + _files(BASE_V2, "v2.pth", "scunet_color_real_psnr.pth")
        + DIALS
        + "- `strength` in *Remove Degradation*: 1 removes all noise; 0.8 leaves some grain, part "
        "of which stage 2 takes for texture.\n"
        "- `cfg` in *CFGGuider*: 4. Lower is calmer, 1 is fastest.\n"
        "- `steps` in *Restoration Sigmas*: 50. 20 is quick and a little smoother.\n"
    )
    _clean_first(g, V2, "scunet_color_real_psnr.pth", 1.0, "diffbir_denoise")


def upscale_v21(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2.1: upscale x4\n\nThe latest weights, on a base of their own that predicts v "
        "and starts from pure noise: *DiffBIR Model Sampling* sets that. The authors' settings: 10 "
        "steps of dpmpp_3m_sde, cfg 6 (their demo uses 8), a long prompt about photo quality. "
        "They put a caption of the photo in front of it: connect any captioner to `caption`.\n"
        "Choose your photo in **Load Image**, press **Run**.\n\n"
        + _files(BASE_V21, "DiffBIR_v2.1.pt", "realesrgan_s4_swinir_100k.pth")
        + DIALS
        + "- `cfg` in *CFGGuider*: 6. Lower is calmer and more faithful, 8 is the demo's.\n"
        "- `noise_aug` in *Apply LA Control*: 0. For badly damaged photos up to 200: more is "
        "invented.\n"
        "- `upscale_by` in *Prepare Restoration*: 4.\n"
    )
    with g.group("1  Your photo"):
        photo = g.add("LoadImage", image="example.png")
    loaded = _models(g, V21)
    with g.group("3  Stage 1: remove degradation"):
        ready = g.add(
            "RestorationPrepare",
            image=photo[0],
            upscale_by=4.0,
            min_side=512,
            multiple=64,
            fit="black",
        )
        network = g.add("UpscaleModelLoader", model_name="realesrgan_s4_swinir_100k.pth")
        clean = g.add("DegradationRemover", image=ready[0], upscale_model=network[0])
    with g.group("4  Stage 2: diffusion"):
        decoded = _diffuse(g, loaded, clean[0], V21.cfg)
        done = g.add("RestorationFinish", image=decoded, info=ready[1], reference=clean[0])
    _result(g, 5, photo[0], done[0], "diffbir_v2.1")


def face(g: Graph) -> None:
    g.note = (
        "# DiffBIR v2: faces in a photo, x2\n\nEvery face is cut out upright at 512x512, restored "
        "with DiffBIR's face stage 1, and pasted back with a soft edge onto the restored photo. "
        "The settings are the authors': 50 steps, cfg 4, x2.\nChoose your photo in **Load Image**, "
        "press **Run**. A photo without a face comes out restored all the same, and the group for "
        "faces is skipped.\n\n"
        + _files(
            BASE_V2,
            "v2.pth",
            "BSRNet.pth",
            "face_swinir_v1.ckpt",
            "face_detection_yunet_2023mar.onnx",
        )
        + "The last file and the package `opencv-python-headless` are for finding faces. Without "
        "them: right click on the photo, **Open in MaskEditor**, paint over each face.\n\n"
        + DIALS
        + "- `confidence` in *Crop Faces*: lower finds more faces in bad photos.\n"
        "- `feather` in *Paste Faces*: width of the soft edge.\n"
        "- `cfg` in the two *CFGGuider*: 4. Lower keeps faces calmer and closer to the photo.\n\n"
        "For a picture that is one aligned face already, set `detector` to *aligned*.\n"
    )
    with g.group("1  Your photo"):
        photo = g.add("LoadImage", image="example.png")
    loaded = _models(g, V2)
    with g.group("3  Background"):
        network = g.add("UpscaleModelLoader", model_name="BSRNet.pth")
        clean = g.add("DegradationRemover", image=photo[0], upscale_model=network[0])
        ready = g.add(
            "RestorationPrepare",
            image=clean[0],
            upscale_by=0.5,
            min_side=512,
            multiple=64,
            fit="black",
        )
        g.column()
        decoded = _diffuse(g, loaded, ready[0], V2.cfg)
        background = g.add("RestorationFinish", image=decoded, info=ready[1])
    with g.group("4  Faces"):
        enlarged = g.add(
            "RestorationPrepare",
            "Enlarge for the faces",
            image=photo[0],
            upscale_by=2.0,
            min_side=512,
            multiple=1,
        )
        crops = g.add("RestorationFaceCrop", image=enlarged[0], mask=photo[1])
        network = g.add("UpscaleModelLoader", model_name="face_swinir_v1.ckpt")
        clean = g.add("DegradationRemover", image=crops[0], upscale_model=network[0])
        g.column()
        decoded = _diffuse(g, loaded, clean[0], V2.cfg)
        faces = g.add("WaveletColorFix", image=decoded, reference=clean[0])
        g.column()
        done = g.add("RestorationFacePaste", image=background[0], faces=faces[0], info=crops[1])
    _result(g, 5, photo[0], done[0], "diffbir_face")


WORKFLOWS = {
    "diffbir_v2_upscale": upscale_v2,
    "diffbir_v2.1_upscale": upscale_v21,
    "diffbir_denoise": denoise,
    "diffbir_face": face,
}


def build(name: str, definitions: Definitions) -> Graph:
    """A workflow by name, drawn with the node classes of a host."""
    graph = Graph(name, definitions)
    WORKFLOWS[name](graph)
    return graph


def dumped(content: Json) -> str:
    """As the files are written."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Imports a ComfyUI on the CPU with this pack and writes the files."""
    host = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.home() / "comfy" / "ComfyUI"
    sys.path.insert(0, str(host))
    sys.path.remove(str(FOLDER))
    from comfy.cli_args import args

    args.cpu = True
    spec = importlib.util.spec_from_file_location(
        "restoration", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["restoration"] = module
    spec.loader.exec_module(module)
    definitions = importlib.import_module("restoration.workflows.build").host_definitions()
    for name in WORKFLOWS:
        graph = build(name, definitions)
        (FOLDER / f"{name}.json").write_text(dumped(graph.ui()), encoding="utf-8")
        (FOLDER / "api" / f"{name}.json").write_text(dumped(graph.api()), encoding="utf-8")


CORE_EXTRAS = ("nodes_custom_sampler.py", "nodes_upscale_model.py", "nodes_mask.py")


def host_definitions() -> dict[str, Any]:
    """Core's nodes, the extra ones that the workflows use, and ours."""
    import asyncio
    import inspect

    import nodes

    for extra in CORE_EXTRAS:
        path = Path(inspect.getfile(nodes)).parent / "comfy_extras" / extra
        asyncio.run(nodes.load_custom_node(str(path), module_parent="comfy_extras"))
    from ..nodes import load_nodes

    ours = {node.define_schema().node_id: node for node in load_nodes()}
    return {**nodes.NODE_CLASS_MAPPINGS, **ours}


if __name__ == "__main__":
    main()
