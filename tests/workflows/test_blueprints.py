"""Blueprints against the host's own node definitions, without a front end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.host

FOLDER = Path(__file__).parent.parent.parent / "subgraphs"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.json"))
PICTURES = {"LoadImage", "SaveImage", "RestorationCompare", "MarkdownNote"}
"""What stands around a blueprint, never in it."""


@pytest.fixture(scope="module")
def definitions(comfy) -> dict[str, Any]:
    from restoration.drawing.definitions import host_definitions

    return host_definitions()


@pytest.fixture(params=SHIPPED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def parts(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The node that people see, and the graph inside it."""
    content = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    (node,), (subgraph,) = content["nodes"], content["definitions"]["subgraphs"]
    return node, subgraph


def inputs_of(definition: Any) -> dict[str, Any]:
    """Input id -> its type, or its choices."""
    types = definition.INPUT_TYPES()
    groups = (types.get("required", {}), types.get("optional", {}))
    return {key: spec[0] for group in groups for key, spec in group.items()}


def test_every_method_has_one() -> None:
    from restoration.drawing.blueprints import BLUEPRINTS

    assert sorted(BLUEPRINTS) == SHIPPED
    for method in ("DiffBIR", "PASD", "SeeSR", "StyleID"):
        assert [name for name in SHIPPED if method in name], method


def test_the_outer_node_is_an_instance_of_the_graph(name) -> None:
    node, subgraph = parts(name)
    assert node["type"] == subgraph["id"]
    assert subgraph["name"] == node["title"] == name
    for side in ("inputs", "outputs"):
        outside = [(each["name"], each["type"]) for each in node[side]]
        assert outside == [(each["name"], each["type"]) for each in subgraph[side]]
        kinds = {kind for _, kind in outside}
        assert (
            "IMAGE" in kinds and kinds <= {"inputs": {"IMAGE", "MASK"}, "outputs": {"IMAGE"}}[side]
        )
        assert len(dict(outside)) == len(outside), "two of one name"


def test_the_library_says_what_it_does_and_finds_it_by_plain_words(name) -> None:
    extra = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))["extra"]
    assert extra["BlueprintDescription"].endswith(".")
    aliases = extra["BlueprintSearchAliases"]
    assert {"restore photo", "style transfer"} & set(aliases)
    assert all(isinstance(each, str) and each for each in aliases)


def test_every_end_of_a_link_knows_it(name) -> None:
    _, subgraph = parts(name)
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    border_in, border_out = subgraph["inputNode"]["id"], subgraph["outputNode"]["id"]
    assert len(nodes) == len(subgraph["nodes"]) and not {border_in, border_out} & set(nodes)
    leaving: dict[tuple[int, int], list[int]] = {}
    arriving: dict[tuple[int, int], list[int]] = {}
    for link in subgraph["links"]:
        origin, target = link["origin_id"], link["target_id"]
        source = subgraph["inputs"] if origin == border_in else nodes[origin]["outputs"]
        goal = subgraph["outputs"] if target == border_out else nodes[target]["inputs"]
        assert source[link["origin_slot"]]["type"] == link["type"]
        assert goal[link["target_slot"]]["type"] in (link["type"], "*")
        leaving.setdefault((origin, link["origin_slot"]), []).append(link["id"])
        arriving.setdefault((target, link["target_slot"]), []).append(link["id"])
    assert len({link["id"] for link in subgraph["links"]}) == len(subgraph["links"])
    assert all(len(links) == 1 for links in arriving.values())

    for number, node in nodes.items():
        for slot, output in enumerate(node["outputs"]):
            assert (output["links"] or []) == leaving.pop((number, slot), []), node["type"]
        for slot, entry in enumerate(node["inputs"]):
            expected = [] if entry["link"] is None else [entry["link"]]
            assert expected == arriving.pop((number, slot), []), node["type"]
    for slot, entry in enumerate(subgraph["inputs"]):
        assert entry["linkIds"] and entry["linkIds"] == leaving.pop((border_in, slot))
    for slot, entry in enumerate(subgraph["outputs"]):
        assert entry["linkIds"] and entry["linkIds"] == arriving.pop((border_out, slot))
    assert not leaving and not arriving, "ends that no node has"
    assert subgraph["state"]["lastNodeId"] >= max(nodes)
    assert subgraph["state"]["lastLinkId"] >= max(link["id"] for link in subgraph["links"])


def test_every_inner_node_and_input_exists(definitions, name) -> None:
    _, subgraph = parts(name)
    for node in subgraph["nodes"]:
        kind = node["type"]
        assert kind not in PICTURES
        known = inputs_of(definitions[kind])
        assert {entry["name"] for entry in node["inputs"]} == set(known), kind
        required = definitions[kind].INPUT_TYPES().get("required", {})
        for entry in node["inputs"]:
            given = "widget" in entry or entry["link"] is not None
            assert given or entry["name"] not in required, f"{kind}: {entry['name']} is open"
        assert [output["type"] for output in node["outputs"]] == list(
            definitions[kind].RETURN_TYPES
        )


def test_every_node_leads_to_the_output(name) -> None:
    """What led to a preview only would be dead weight in here."""
    _, subgraph = parts(name)
    reached, ends = set(), [subgraph["outputNode"]["id"]]
    while ends:
        target = ends.pop()
        for link in subgraph["links"]:
            if link["target_id"] == target and link["origin_id"] not in reached:
                reached.add(link["origin_id"])
                ends.append(link["origin_id"])
    idle = [node["type"] for node in subgraph["nodes"] if node["id"] not in reached]
    assert idle == []


def test_dials_are_widgets_of_inner_nodes(name) -> None:
    node, subgraph = parts(name)
    inner = {str(each["id"]): each for each in subgraph["nodes"]}
    dials = node["properties"]["proxyWidgets"]
    assert {"ckpt_name"} <= {widget for _, widget in dials}
    for number, widget in dials:
        (entry,) = (each for each in inner[number]["inputs"] if each["name"] == widget)
        assert entry["widget"] == {"name": widget} and entry["link"] is None


def test_groups_frame_inner_nodes_only(name) -> None:
    _, subgraph = parts(name)
    for group in subgraph["groups"]:
        x, y, width, height = group["bounding"]
        assert any(
            x < node["pos"][0] < x + width and y < node["pos"][1] < y + height
            for node in subgraph["nodes"]
        ), group["title"]
