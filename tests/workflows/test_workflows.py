"""Shipped workflows against the host's own node definitions, without running them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from restoration.drawing.build import workflows
from restoration.drawing.files import total
from restoration.registry import files

pytestmark = pytest.mark.host

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "workflows"
SHIPPED = workflows()
MODEL_FOLDERS = {"checkpoints", "controlnet", "upscale_models", "restoration"}
MODEL_INPUTS = {
    "CheckpointLoaderSimple": {"ckpt_name"},
    "DAPELoader": {"ram_name", "dape_name"},
    "DiffBIRControlLoader": {"control_net_name"},
    "OneStepLoader": {"onestep_name"},
    "PASDLoader": {"unet_name", "control_net_name"},
    "SeeSRLoader": {"unet_name", "control_net_name"},
    "UpscaleModelLoader": {"model_name"},
}
"""Dropdowns of files: the only values that a fresh host may not have."""
ANYTHING = "*"
"""Type of an input that takes every output."""
WITHOUT_PICTURE = {"tag_and_prompt", "finetune_pasd"}
"""An App shows pictures, and these give something else."""
NO_FILE = {"none"}
"""Choices of those dropdowns that are no file."""


@pytest.fixture(scope="module")
def definitions(comfy) -> dict[str, Any]:
    from restoration.drawing.definitions import host_definitions

    return host_definitions()


@pytest.fixture(params=SHIPPED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def ui_of(name: str) -> dict[str, Any]:
    return json.loads(SHIPPED[name].path.read_text("utf-8"))


def api_of(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / "api" / f"{name}.json").read_text("utf-8"))


def specs(definition: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Input id -> (type or choices, options), in the host's order."""
    types = definition.INPUT_TYPES()
    return {
        key: (spec[0], spec[1] if len(spec) > 1 else {})
        for group in ("required", "optional")
        for key, spec in types.get(group, {}).items()
    }


def fits(output: str, taken: str) -> bool:
    """Whether an output goes into an input: each may name several types, set apart by commas."""
    return taken == ANYTHING or not set(output.split(",")).isdisjoint(taken.split(","))


def is_widget(kind: Any, options: dict[str, Any]) -> bool:
    drawn = isinstance(kind, list | tuple) or kind in {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
    return drawn and not options.get("forceInput")


def complaints(definition: Any, key: str, value: Any) -> str | None:
    """Why the host would refuse a widget's value."""
    kind, options = specs(definition)[key]
    choices = kind if isinstance(kind, list | tuple) else options.get("options")
    if choices is not None:
        return None if value in choices else f"{value!r} is no choice"
    if kind in ("INT", "FLOAT"):
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"{value!r} is no number"
        if not options.get("min", value) <= value <= options.get("max", value):
            return f"{value} is out of range"
        return None if kind == "FLOAT" or value == int(value) else f"{value} is no integer"
    wanted = bool if kind == "BOOLEAN" else str
    return None if isinstance(value, wanted) else f"{value!r} is no {kind}"


def installed_elsewhere(kind: str, key: str) -> bool:
    return key in MODEL_INPUTS.get(kind, ()) or (kind, key) == ("LoadImage", "image")


def uploads(definition: Any) -> bool:
    """Whether the front end adds an upload button, which is a widget as well."""
    return any(options.get("image_upload") for _, options in specs(definition).values())


def test_every_node_and_input_exists_and_every_value_is_allowed(definitions, name) -> None:
    for number, node in api_of(name).items():
        kind, given = node["class_type"], node["inputs"]
        assert kind in definitions, f"{kind} is not a node of this host"
        known = specs(definitions[kind])
        assert set(given) <= set(known), f"{kind}: {set(given) - set(known)}"
        required = definitions[kind].INPUT_TYPES().get("required", {})
        assert set(required) <= set(given), f"{kind} lacks {set(required) - set(given)}"
        for key, value in given.items():
            where = f"{kind} (node {number}): {key}"
            if isinstance(value, list):
                source = definitions[api_of(name)[value[0]]["class_type"]]
                assert fits(source.RETURN_TYPES[value[1]], known[key][0]), where
            elif not installed_elsewhere(kind, key):
                assert complaints(definitions[kind], key, value) is None, where


def test_both_forms_are_the_same_graph(definitions, name) -> None:
    """The frontend's own way from what it loads to what it sends."""
    ui = ui_of(name)
    links = {link[0]: link for link in ui["links"]}
    found = {}
    for node in ui["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        inputs: dict[str, Any] = {}
        values = iter(node["widgets_values"])
        for key, (kind, options) in specs(definitions[node["type"]]).items():
            if is_widget(kind, options):
                inputs[key] = next(values)
                if options.get("control_after_generate"):
                    assert next(values) in ("fixed", "increment", "decrement", "randomize")
        rest = list(values)
        assert rest == (["image"] if uploads(definitions[node["type"]]) else []), node["type"]
        for entry in node["inputs"]:
            if entry["link"] is not None:
                link = links[entry["link"]]
                inputs[entry["name"]] = [str(link[1]), link[2]]
        found[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    expected = {
        number: {"class_type": node["class_type"], "inputs": node["inputs"]}
        for number, node in api_of(name).items()
    }
    assert found == expected


def test_links_are_consistent(definitions, name) -> None:
    ui = ui_of(name)
    nodes = {node["id"]: node for node in ui["nodes"]}
    assert len(nodes) == len(ui["nodes"]) and ui["last_node_id"] == max(nodes)
    assert sorted(link[0] for link in ui["links"]) == list(range(1, ui["last_link_id"] + 1))
    ends: dict[tuple[int, int], list[int]] = {}
    for number, source, slot, target, into, kind in ui["links"]:
        output, entry = nodes[source]["outputs"][slot], nodes[target]["inputs"][into]
        assert output["type"] == kind and fits(kind, entry["type"])
        assert entry["link"] == number
        assert nodes[source]["order"] < nodes[target]["order"]
        ends.setdefault((source, slot), []).append(number)
    for node in nodes.values():
        for slot, output in enumerate(node["outputs"]):
            assert (output["links"] or []) == ends.get((node["id"], slot), [])
        if node["type"] in definitions:
            names = {entry["name"] for entry in node["inputs"]} - {"upload"}
            assert names == set(specs(definitions[node["type"]])), node["type"]


def test_nothing_overlaps_and_groups_frame_their_nodes(name) -> None:
    ui = ui_of(name)
    boxes = [bounds(node) for node in ui["nodes"]]
    frames = [(x, y, x + w, y + h) for x, y, w, h in (g["bounding"] for g in ui["groups"])]
    for kind in (boxes, frames):
        for index, (x, y, r, b) in enumerate(kind):
            for left, top, right, bottom in kind[index + 1 :]:
                assert r <= left or right <= x or b <= top or bottom <= y
    for node, (x, y, r, b) in zip(ui["nodes"], boxes, strict=True):
        inside = [f for f in frames if f[0] < x and f[1] < y and r < f[2] and b < f[3]]
        assert len(inside) == (node["type"] != "MarkdownNote"), node["type"]


def bounds(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, with the title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - 30, x + width, y + (0 if node["flags"].get("collapsed") else height)


def test_links_run_to_the_right_or_down_and_the_note_lies_above(name) -> None:
    ui = ui_of(name)
    places = {node["id"]: bounds(node) for node in ui["nodes"]}
    for _, source, _, target, *_ in ui["links"]:
        (left, top, *_), (x, y, *_) = places[source], places[target]
        assert left < x or (left == x and top < y), (source, target)
    (note,) = (node for node in ui["nodes"] if node["type"] == "MarkdownNote")
    assert all(top > places[note["id"]][3] for number, (_, top, *_) in places.items() if number > 1)


def test_nothing_of_it_lies_further_out_than_can_be_read_as_opened(name) -> None:
    """Folded nodes too, at the size that the file gives them."""
    ui = ui_of(name)
    boxes = [(*node["pos"], *node["size"]) for node in ui["nodes"]]
    boxes += [tuple(group["bounding"]) for group in ui["groups"]]
    left, top = (min(box[axis] for box in boxes) for axis in (0, 1))
    right, low = (max(box[axis] + box[axis + 2] for box in boxes) for axis in (0, 1))
    assert right - left <= 1850 and low - top <= 1150 - 30  # the first title


def test_a_simple_workflow_opens_as_an_app(name) -> None:
    """Photo first, the file to compare last; what shows all nodes stays a graph."""
    ui = ui_of(name)
    nodes = {node["id"]: node for node in ui["nodes"]}
    large = len(nodes) > 12
    assert bool(ui["extra"]) == (not large and name not in WITHOUT_PICTURE)
    if not ui["extra"]:
        return
    assert ui["extra"]["linearMode"] is True
    data = ui["extra"]["linearData"]
    for number, widget in data["inputs"]:
        (entry,) = (each for each in nodes[number]["inputs"] if each["name"] == widget)
        assert entry["widget"] and entry["link"] is None
    shown = [widget for _, widget in data["inputs"]]
    assert shown[:1] == ["image"] and {"fidelity", "upscale_by"} <= set(shown)
    results = [nodes[number]["type"] for number in data["outputs"]]
    assert sorted(results) == ["RestorationCompare", "SaveImage"]


def note_of(name: str) -> str:
    (note,) = (node for node in ui_of(name)["nodes"] if node["type"] == "MarkdownNote")
    assert note["title"] == "Read me"
    assert note["properties"] == {"diffusion_restoration_note": name}
    return note["widgets_values"][0]


def test_the_note_tells_what_it_does_and_which_three_dials_matter(name) -> None:
    text = note_of(name)
    assert text.startswith("# ")
    assert text.count("](") == text.count("https://")
    if SHIPPED[name].all_nodes:
        (simple,) = re.findall(r"in the template \*\*(.+)\*\*", text)
        assert [each for each in SHIPPED.values() if each.title.endswith(simple)]
        return
    # The list right under that heading.
    listed = text.split("three dials that")[1].split("\n\n", 2)[1].strip().split("\n")
    assert [line[:3] for line in listed] == ["- `"] * 3


def test_every_weight_file_says_where_it_comes_from(name) -> None:
    ui = ui_of(name)
    for node in ui["nodes"]:
        models = node["properties"].get("models", [])
        if keys := MODEL_INPUTS.get(node["type"]):
            inputs = api_of(name)[str(node["id"])]["inputs"]
            chosen = {inputs[key] for key in keys} - NO_FILE
            assert chosen <= {model["name"] for model in models}
        for model in models:
            address = model["url"].replace("/resolve/main", "")
            assert address.startswith("https://")
            # A mirror may spell a folder in capitals; a drive's folder has no file's name.
            by_hand = files()[model["name"]].how
            assert by_hand or address.lower().endswith(model["name"].lower())
            assert model["directory"] in MODEL_FOLDERS
            if not SHIPPED[name].all_nodes:
                assert f"[{model['name']}]({model['url']})" in note_of(name)
    names = {
        model["name"] for node in ui["nodes"] for model in node["properties"].get("models", [])
    }
    if names and not SHIPPED[name].all_nodes:
        assert f"**Files**, {total(tuple(names))} " in note_of(name)


WITHOUT_DIAL = {"ddnm_inpaint", "repaint_inpaint", "luma_color", "jpeg_repair", *WITHOUT_PICTURE}
"""DDNM's own `strength` is such a dial already, and so is a mask; a tagger draws nothing."""
APPLY = {"LAControlApply", "PACAControlApply", "SeeSRControlApply", "StyleIDApply"}


def test_a_dial_at_the_authors_setting_turns_every_apply_node(name) -> None:
    nodes = api_of(name)
    given = [
        (node["class_type"], node["inputs"]["fidelity"])
        for node in nodes.values()
        if "fidelity" in node["inputs"]
    ]
    assert given or name in WITHOUT_DIAL
    assert {value for _, value in given if not isinstance(value, list)} <= {0.5}
    turned = {nodes[value[0]]["class_type"] for _, value in given if isinstance(value, list)}
    assert turned <= {"RestorationFidelity"}
    assert all(isinstance(value, list) for kind, value in given if kind in APPLY)
    told = "- `fidelity` in *" in note_of(name)
    assert told == (name not in WITHOUT_DIAL and not SHIPPED[name].all_nodes)


def test_no_node_has_an_id_that_another_pack_takes() -> None:
    """ComfyUI keeps the node that is loaded last, whichever pack's that is."""
    taken = {"WaveletColorFix"}  # ComfyUI-FrameUtilitys
    for path in (*(ROOT / "workflows").rglob("*.json"), *(ROOT / "subgraphs").glob("*.json")):
        text = path.read_text(encoding="utf-8")
        assert not [name for name in taken if f'"{name}"' in text], path


def test_files_are_what_the_description_gives(definitions) -> None:
    """Written by `python drawing workflows`, byte for byte; blueprints too."""
    from restoration.drawing.build import files

    written = files(definitions)
    for path, text in written.items():
        assert path.read_text("utf-8") == text, path
    folders = (FOLDER, FOLDER / "api", ROOT / "subgraphs", ROOT / "web" / "notes")
    assert written.keys() == {path for folder in folders for path in folder.glob("*.json")}


def test_a_fresh_host_misses_nothing_but_files(definitions, comfy, name, registry) -> None:
    """The host's own validation; the packs' nodes are in its table for it."""
    import asyncio

    import execution

    registry.update(definitions)
    prompt = api_of(name)
    valid, error, _, problems = asyncio.run(execution.validate_prompt("0", prompt, None))
    refused = {
        (prompt[number]["class_type"], each["extra_info"]["input_name"])
        for number, problem in problems.items()
        for each in problem["errors"]
    }
    assert valid or refused, error
    assert all(installed_elsewhere(*each) for each in refused), problems
    # The oldest host does not look into the dropdowns of nodes with a schema, such as ours.
    loaders = {kind for kind in MODEL_INPUTS if not hasattr(definitions[kind], "GET_SCHEMA")}
    if any(node["class_type"] in loaders for node in prompt.values()):
        assert {kind for kind, _ in refused} & loaders


@pytest.fixture
def registry(comfy):
    """ComfyUI's node table, put back after the test."""
    before = dict(comfy.nodes.NODE_CLASS_MAPPINGS)
    yield comfy.nodes.NODE_CLASS_MAPPINGS
    comfy.nodes.NODE_CLASS_MAPPINGS.clear()
    comfy.nodes.NODE_CLASS_MAPPINGS.update(before)


def test_thumbnails(name) -> None:
    """Each shows what goes in, or, where nothing has to be downloaded, what comes out."""
    from PIL import Image

    from restoration.drawing.thumbnails import CARDS

    assert (CARDS[name].goes_in is None) == (name == "quick_restore")

    path = SHIPPED[name].path.with_suffix(".jpg")
    assert path.stat().st_size < 64_000
    picture = Image.open(path)
    assert picture.format == "JPEG" and min(picture.size) >= 350
