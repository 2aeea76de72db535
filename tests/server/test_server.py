"""The pack in a real, headless ComfyUI: what it lists, runs, refuses and survives."""

from __future__ import annotations

import ast
import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from restoration.tools.comfyui.client import ImageRef, Progress, Prompt, PromptError, read_prompt
from restoration.tools.comfyui.find import Host
from restoration.tools.comfyui.process import ComfyServer, copy_pack
from restoration.tools.folder.workflow import LOADS

pytestmark = pytest.mark.server

ROOT = Path(__file__).parent.parent.parent
API_WORKFLOWS = sorted((ROOT / "workflows" / "api").glob("*.json"))
OF_PICTURES = [path for path in API_WORKFLOWS if '"SaveImage"' in path.read_text("utf-8")]
"""The others give texts, or a trained network, which would be put among the user's models."""
WEIGHT_FILES = {".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".onnx"}


def node_ids(folder: Path) -> dict[str, set[str]]:
    """Theme file -> the ids its schemas declare, read from the source."""
    return {
        path.name: {
            keyword.value.value
            for call in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(call, ast.Call)
            for keyword in call.keywords
            if keyword.arg == "node_id" and isinstance(keyword.value, ast.Constant)
        }
        for path in folder.glob("*.py")
    }


def all_node_ids() -> set[str]:
    return set().union(*node_ids(ROOT / "nodes").values())


def with_photo(prompt: Prompt, name: str) -> Prompt:
    for node in prompt.values():
        if node["class_type"] in LOADS:
            node["inputs"]["image"] = name
    return prompt


def quick_restore(photo: str) -> Prompt:
    path = ROOT / "workflows" / "api" / "quick_restore.json"
    return with_photo(read_prompt(path), photo)


def saved_image(server: ComfyServer, prompt: Prompt) -> Image.Image:
    images = server.run(prompt, timeout=300).images("output")
    return Image.open(io.BytesIO(server.fetch(images[0])))


def remover(image: object, **settings: object) -> dict:
    inputs = {"tile_size": 512, "tile_overlap": 64, "strength": 1.0, "resize_to_input": False}
    return {"class_type": "DegradationRemover", "inputs": {"image": image, **inputs, **settings}}


# What it lists


def test_object_info_lists_exactly_the_nodes_of_the_pack(server: ComfyServer) -> None:
    assert set(server.pack_nodes()) == all_node_ids()
    assert len(all_node_ids()) >= 5


def test_object_info_has_a_tooltip_on_every_input_and_output(server: ComfyServer) -> None:
    for name, info in server.pack_nodes().items():
        for inputs in (info["input"].get(kind, {}) for kind in ("required", "optional")):
            for key, spec in inputs.items():
                assert len(spec[1]["tooltip"]) > 10, f"{name}: {key}"
        assert all(info["output_tooltips"]), name
        assert info["category"].split("/")[0] == "restoration", name


def test_workflows_are_offered_as_templates_with_a_thumbnail(server: ComfyServer) -> None:
    shipped = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert sorted(server.get_json("/workflow_templates")[server.folder_name]) == shipped
    for name in shipped:
        base = f"/api/workflow_templates/{server.folder_name}/{quote(name)}"
        assert json.loads(server.request(f"{base}.json"))["nodes"]
        assert Image.open(io.BytesIO(server.request(f"{base}.jpg"))).format == "JPEG"


def test_help_pages_are_served(server: ComfyServer) -> None:
    for name in server.pack_nodes():
        for page in (f"{name}.md", f"{name}/zh.md"):
            text = server.request(f"/extensions/{server.folder_name}/docs/{page}")
            assert len(text) > 100, page


@pytest.mark.parametrize("path", API_WORKFLOWS, ids=lambda path: path.stem)
def test_shipped_workflow_uses_only_nodes_and_inputs_that_exist(
    server: ComfyServer, path: Path
) -> None:
    known = server.object_info()
    for node, spec in read_prompt(path).items():
        kind, inputs = spec["class_type"], set(spec["inputs"])
        assert kind in known, f"{kind} (node {node}) is unknown"
        required = known[kind]["input"].get("required", {})
        optional = known[kind]["input"].get("optional", {})
        assert set(required) <= inputs <= set(required) | set(optional) | {"upload"}, (node, kind)


# What it runs


def choices_of(spec: list | None) -> list[str]:
    """The choices of a dropdown, in core's form or in that of nodes with a schema."""
    first, *rest = spec or [[]]
    return first if isinstance(first, list) else rest[0].get("options", [])


def missing_files(server: ComfyServer, prompt: Prompt) -> list[str]:
    """The weight files a workflow names and this server lacks."""
    known = server.object_info()
    named = [
        (value, choices_of(known[spec["class_type"]]["input"].get("required", {}).get(key)))
        for spec in prompt.values()
        for key, value in spec["inputs"].items()
        if isinstance(value, str) and Path(value).suffix in WEIGHT_FILES
    ]
    return sorted({value for value, choices in named if value not in choices})


@pytest.mark.parametrize("path", OF_PICTURES, ids=lambda path: path.stem)
def test_shipped_workflow_runs_to_an_image(
    server: ComfyServer, tiny_photo: str, path: Path
) -> None:
    steps: list[Progress] = []
    prompt = with_photo(read_prompt(path), tiny_photo)
    if missing := missing_files(server, prompt):
        pytest.skip(f"{path.stem} needs weights that are not here: {', '.join(missing)}")
    result = server.run(prompt, steps.append, timeout=300)
    images = result.images("output")
    assert images, "the workflow saves no image"
    assert Image.open(io.BytesIO(server.fetch(images[0]))).mode in ("RGB", "RGBA")
    assert {step.node for step in steps} <= set(prompt)
    assert any(step.maximum > 0 for step in steps), "no progress was reported"


def test_the_first_press_of_run_repairs_the_sample_photo(server: ComfyServer) -> None:
    """Nothing uploaded, nothing put into the user's folder, and a preview before the run."""
    given = {path.name for path in (server.base / "input").iterdir()}
    prompt = read_prompt(ROOT / "workflows" / "api" / "quick_restore.json")
    (sample,) = (node for node in prompt.values() if node["class_type"] in LOADS)
    shown = ImageRef("", sample["inputs"]["image"], "", "input")  # as the front end asks for it
    before = Image.open(io.BytesIO(server.fetch(shown)))
    after = saved_image(server, prompt)
    assert before.size == after.size == (512, 400)
    assert np.abs(np.asarray(before, int) - np.asarray(after.convert("RGB"), int)).mean() > 3
    assert {path.name for path in (server.base / "input").iterdir()} == given


@pytest.mark.parametrize(("factor", "size"), [(1.0, (37, 29)), (2.5, (92, 72)), (0.5, (18, 14))])
def test_result_has_exactly_the_asked_size(
    server: ComfyServer, tiny_photo: str, factor: float, size: tuple[int, int]
) -> None:
    prompt = quick_restore(tiny_photo)
    for node in prompt.values():
        if node["class_type"] == "RestorationPrepare":
            node["inputs"].update(min_side=64, multiple=32)
        if node["class_type"] == "RestorationEnlarge":
            node["inputs"]["upscale_by"] = factor
    assert saved_image(server, prompt).size == size


def test_strength_zero_leaves_every_pixel(server: ComfyServer, tiny_photo: str) -> None:
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": tiny_photo}},
        "2": remover(["1", 0], strength=0.0),
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "zero"}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "in"}},
    }
    images = server.run(prompt).images("output")
    zero, source = (Image.open(io.BytesIO(server.fetch(image))) for image in images)
    assert zero.tobytes() == source.tobytes()


# What it refuses, and that it lives on


def test_missing_link_is_refused_naming_node_and_input(
    server: ComfyServer, tiny_photo: str
) -> None:
    prompt = quick_restore(tiny_photo)
    finish = next(n for n in prompt.values() if n["class_type"] == "RestorationFinish")
    del finish["inputs"]["info"]
    with pytest.raises(PromptError, match=r"RestorationFinish \(node \d+\): .*missing.* info"):
        server.run(prompt)


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        ("RestorationPrepare", "upscale_by", 0),
        ("RestorationPrepare", "fit", "squeeze"),
        ("DegradationRemover", "strength", 1.5),
        ("RestorationFinish", "color_correction_method", "magic"),
    ],
)
def test_impossible_value_is_refused_by_name(
    server: ComfyServer, tiny_photo: str, kind: str, setting: str, value: object
) -> None:
    """By the host, or by the node itself: the oldest host checks no choices of V3 nodes."""
    prompt = quick_restore(tiny_photo)
    next(n for n in prompt.values() if n["class_type"] == kind)["inputs"][setting] = value
    with pytest.raises(PromptError, match=rf"{kind} \(node \d+\).*({setting}|{value})"):
        server.run(prompt)


def test_unknown_node_is_refused_by_name(server: ComfyServer, tiny_photo: str) -> None:
    prompt = quick_restore(tiny_photo)
    next(n for n in prompt.values() if "Remover" in n["class_type"])["class_type"] = "NoSuchNode"
    with pytest.raises(PromptError, match="NoSuchNode"):
        server.run(prompt)


def test_wrong_picture_gives_a_sentence_and_the_server_stays_usable(
    server: ComfyServer, tiny_photo: str
) -> None:
    prompt = quick_restore(tiny_photo)
    finish = next(n for n in prompt.values() if n["class_type"] == "RestorationFinish")
    size = {"width": 80, "height": 640, "batch_size": 1, "color": 0}
    prompt["90"] = {"class_type": "EmptyImage", "inputs": size}
    finish["inputs"]["image"] = ["90", 0]
    with pytest.raises(PromptError, match=r"RestorationFinish .*80x640.*Connect"):
        server.run(prompt)
    assert saved_image(server, quick_restore(tiny_photo)).size == (37, 29)


def test_interrupt_stops_a_tiled_run_and_the_server_stays_usable(
    server: ComfyServer, tiny_photo: str
) -> None:
    size = {"width": 1536, "height": 1536, "batch_size": 1, "color": 0x808080}
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": remover(["1", 0], tile_size=64, tile_overlap=32),
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    done: list[float] = []

    def stop_after_the_first_tile(step: Progress) -> None:
        if step.node == "2" and step.maximum:
            done.append(step.value / step.maximum)
            if len(done) == 1:
                server.interrupt()

    with pytest.raises(PromptError, match="interrupted at DegradationRemover"):
        server.run(prompt, stop_after_the_first_tile, timeout=300)
    assert done, "no tile was reported"
    assert max(done) < 0.5
    queue = server.get_json("/queue")
    assert not queue["queue_running"] and not queue["queue_pending"]
    assert saved_image(server, quick_restore(tiny_photo)).size == (37, 29)


# What it survives


@pytest.fixture(scope="module")
def damaged(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A host whose copy of the pack has a broken node file and an odd folder name."""
    pack = copy_pack(tmp_path_factory.mktemp("packs") / "pack")
    (pack / "nodes" / "color.py").write_text("raise ImportError('broken on purpose')\n")
    with ComfyServer(host, pack_root=pack, folder_name="My-Pack.v1 test 修复") as running:
        yield running


def test_broken_node_file_hides_only_its_own_nodes(damaged: ComfyServer) -> None:
    hidden = node_ids(ROOT / "nodes")["color.py"]
    assert hidden
    assert set(damaged.pack_nodes()) == all_node_ids() - hidden
    log = damaged.log()
    assert "Traceback" in log and "broken on purpose" in log and "color.py" in log


def test_runs_under_any_folder_name_beside_a_broken_file(damaged: ComfyServer) -> None:
    photo = damaged.upload((ROOT / "scripts" / "photo" / "degraded.jpg").read_bytes(), "a.jpg")
    assert saved_image(damaged, quick_restore(photo)).size == (512, 400)
