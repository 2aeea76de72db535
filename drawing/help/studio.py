"""ComfyUI with the pack, and Chromium in front of it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ...tools.comfyui.client import Prompt
from ...tools.comfyui.find import (
    PACK_ROOT,
    find_chromium,
    find_frontend,
    find_host,
    find_newer_host,
)
from ...tools.comfyui.process import ComfyServer

Link = list[Any]
"""An output of a node: its id and which."""


@dataclass
class Studio:
    """A ComfyUI with the pack, and a browser tab in front of it."""

    server: ComfyServer
    page: Any
    graph: Prompt = field(default_factory=dict)
    """What the next run runs."""

    def photo(self, picture: Image.Image) -> Link:
        """A picture as the IMAGE of a graph."""
        packed = io.BytesIO()
        picture.save(packed, "PNG")
        name = self.server.upload(packed.getvalue(), f"photo{len(self.graph)}.png")
        return [self.node("LoadImage", image=name), 0]

    def node(self, kind: str, **inputs: Any) -> str:
        """Adds a node to the graph; returns its id."""
        self.graph[str(len(self.graph))] = {"class_type": kind, "inputs": inputs}
        return str(len(self.graph) - 1)

    def run(self, *images: Link, text: Link | None = None) -> tuple[list[Image.Image], str]:
        """Runs the graph; returns what these links carry and forgets the graph."""
        shown = [self.node("PreviewImage", images=image) for image in images]
        told = self.node("PreviewAny", source=text) if text else None
        graph, self.graph = self.graph, {}
        result = self.server.run(graph)
        files = {image.node: image for image in result.images("temp")}
        pictures = [Image.open(io.BytesIO(self.server.fetch(files[node]))) for node in shown]
        words = result.outputs[told]["text"][0] if told else ""
        return [picture.convert("RGB") for picture in pictures], words


WHOLE_TITLES = """() => {  // the front end cuts the titles of folded nodes at 20 letters
    const substr = String.prototype.substr;
    String.prototype.substr = function (start, length) {
        return substr.call(this, start, length === 20 ? undefined : length);
    };
}"""
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else a gallery of templates covers the graph
    "Comfy.Minimap.Visible": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}


@contextmanager
def open_studio() -> Iterator[Studio]:
    """The newest ComfyUI found, with its own front end and empty files in place of weights."""
    from playwright.sync_api import sync_playwright

    host = find_newer_host() or find_host()
    if host is None:
        raise SystemExit("No ComfyUI found: set COMFYUI_PATH to a checkout.")
    sandbox = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]
    with (
        ComfyServer(host, frontend=find_frontend(host)) as server,
        sync_playwright() as driver,
    ):
        server.post_json("/settings", SETTINGS)
        for workflow in (PACK_ROOT / "workflows").glob(
            "*.json"
        ):  # else dialogs tell what is missing
            for node in json.loads(workflow.read_text("utf-8"))["nodes"]:
                for model in node.get("properties", {}).get("models", []):
                    path = server.base / "models" / model["directory"] / model["name"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
        browser = driver.chromium.launch(
            executable_path=str(find_chromium()), args=["--disable-gpu", *sandbox]
        )
        page = browser.new_page(viewport={"width": 1920, "height": 1000})
        page.goto(server.url)
        page.wait_for_function(
            "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 100"
        )
        page.evaluate(WHOLE_TITLES)
        yield Studio(server, page)
        browser.close()
