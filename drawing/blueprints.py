"""Subgraph blueprints: a whole method as one node, pictures in, picture out.

ComfyUI 0.18 offers the files of a pack's folder `subgraphs` in its node library. Each is a shipped
workflow without what stands around it: loading, previews and notes.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from ..tools.folder.workflow import LOADS

Json = dict[str, Any]


@dataclass(frozen=True)
class Blueprint:
    """One that is shipped: the workflow it is made of, and what the node library says of it."""

    workflow: str
    description: str
    aliases: tuple[str, ...]


_USUAL = ("restore photo", "old photo", "enhance", "upscale")
BLUEPRINTS = {
    "Restore with DiffBIR (all nodes)": Blueprint(
        "diffbir_v2_all_nodes",
        "A photo restored with DiffBIR v2: cleaned first, then drawn anew, four times as large. As "
        "one node that can be opened and changed.",
        (*_USUAL, "denoise", "deblur"),
    ),
    "Restore with PASD (all nodes)": Blueprint(
        "pasd_all_nodes",
        "A photo restored with PASD, twice as large. As one node that can be opened and changed.",
        (*_USUAL, "colorize", "stylize"),
    ),
    "Restore with SeeSR (all nodes)": Blueprint(
        "seesr_all_nodes",
        "A photo restored with SeeSR, which says by itself what is in it, four times as large. As one "
        "node that can be opened and changed.",
        (*_USUAL, "super resolution", "tags"),
    ),
    "Transfer Style with StyleID": Blueprint(
        "styleid_transfer",
        "A photo painted in the style of another picture with StyleID, without training.",
        ("style transfer", "paint", "stylize", "painting"),
    ),
}
"""By name in the node library, which has the Restore nodes, too."""

COMPARE = "RestorationCompare"
"""Its `after` takes what a workflow makes."""
AROUND = {*LOADS, COMPARE, "SaveImage", "MarkdownNote"}
DIALS = ("fidelity", "ckpt_name", "upscale_by", "cfg", "seed", "color_correction_method")
"""Widgets of the inner nodes that the blueprint shows."""
INPUT, OUTPUT = -10, -20
"""The frontend's ids of the subgraph's own border."""


def blueprint(name: str, ui: Json) -> Json:
    """A workflow in the frontend's form as a workflow of one node, a subgraph."""

    def identity(part: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"diffusion-restoration/{name}/{part}"))

    nodes = {node["id"]: node for node in ui["nodes"]}
    photos = [node for node in ui["nodes"] if node["type"] in LOADS]
    used = [
        (photo, slot)
        for slot in range(2)  # pictures before masks
        for photo in photos
        if photo["outputs"][slot]["links"]
    ]
    inputs = [
        {
            "id": identity(f"input {number}"),
            "name": _input_name(photo, slot, len(photos)),
            "type": photo["outputs"][slot]["type"],
            "linkIds": [],
        }
        for number, (photo, slot) in enumerate(used)
    ]
    output = {"id": identity("output"), "name": "IMAGE", "type": "IMAGE", "linkIds": []}
    border = {(photo["id"], slot): number for number, (photo, slot) in enumerate(used)}

    links = []
    for number, source, slot, target, into, kind in ui["links"]:
        link = {
            "id": number,
            "origin_id": source,
            "origin_slot": slot,
            "target_id": target,
            "target_slot": into,
            "type": kind,
        }
        end = nodes[target]
        if end["type"] == COMPARE and end["inputs"][into]["name"] == "after":
            link |= {"target_id": OUTPUT, "target_slot": 0}
            output["linkIds"].append(number)
        elif end["type"] in AROUND:
            continue
        if (source, slot) in border:
            link |= {"origin_id": INPUT, "origin_slot": border[source, slot]}
            inputs[border[source, slot]]["linkIds"].append(number)
        links.append(link)

    kept = {link["id"] for link in links}
    inside = [
        node
        | {
            "outputs": [
                each | {"links": [n for n in each.get("links") or () if n in kept] or None}
                for each in node["outputs"]
            ]
        }
        for node in ui["nodes"]
        if node["type"] not in AROUND
    ]
    left = min(node["pos"][0] for node in inside)
    right = max(node["pos"][0] + node["size"][0] for node in inside)
    subgraph = {
        "id": identity("subgraph"),
        "version": 1,
        "state": {
            "lastGroupId": len(ui["groups"]),
            "lastNodeId": ui["last_node_id"],
            "lastLinkId": ui["last_link_id"],
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": name,
        "inputNode": {"id": INPUT, "bounding": [left - 200, 0, 120, 60 + 20 * len(inputs)]},
        "outputNode": {"id": OUTPUT, "bounding": [right + 80, 0, 120, 80]},
        "inputs": inputs,
        "outputs": [output],
        "widgets": [],
        "nodes": inside,
        "groups": [group for group in ui["groups"] if _holds(group, inside)],
        "links": links,
        "extra": {},
        "category": "restoration",
    }
    dials = [
        [str(node["id"]), entry["name"]]
        for dial in DIALS
        for node in inside
        for entry in node["inputs"]
        if entry["name"] == dial and "widget" in entry and entry["link"] is None
        if dial != "fidelity" or node["type"] == "RestorationFidelity"  # one dial turns them all
    ]
    outer = {
        "id": 1,
        "type": subgraph["id"],
        "pos": [0, 0],
        "size": [400, 60 + 24 * len(dials)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [{"name": e["name"], "type": e["type"], "link": None} for e in inputs],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": []}],
        "title": name,
        "properties": {"proxyWidgets": dials, "cnr_id": "diffusion-restoration", "ver": "0.1.0"},
        "widgets_values": [],
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [outer],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {
            "BlueprintDescription": BLUEPRINTS[name].description,
            "BlueprintSearchAliases": list(BLUEPRINTS[name].aliases),
        },
    }


def _input_name(photo: Json, slot: int, photos: int) -> str:
    if slot:
        return "transparency"
    return "image" if photos == 1 else photo["title"].removeprefix("The ").lower()


def _holds(group: Json, nodes: list[Json]) -> bool:
    x, y, width, height = group["bounding"]
    return any(
        x <= node["pos"][0] < x + width and y <= node["pos"][1] < y + height for node in nodes
    )
