"""A node among its neighbors of a shipped workflow, drawn by ComfyUI's own front end: for nodes that
need published weights, which are not here."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from ..build import workflows
from .look import WIDTH
from .studio import Studio

LEAST_HEIGHT = 104
"""Of a picture: lower ones look like a line."""
ARRANGE = Path(__file__).with_name("arrange.js")


def in_graph(studio: Studio, kind: str, workflow: str) -> Image.Image:
    """The node of a shipped workflow with what goes in, folded, and the links that go out; with
    what comes next where nothing goes in. All three would be too small for a help panel."""
    spec = json.loads(workflows()[workflow].path.read_text("utf-8"))
    spec["extra"] = {}  # else it opens as an App, without a graph
    left, top = 640, 160  # clear of menus and panels
    height, scale = studio.page.evaluate(ARRANGE.read_text("utf-8"), [spec, kind, WIDTH, left, top])
    if scale < 0.9:
        raise SystemExit(f"{kind} would be drawn at {scale:.2f} of its size, too small to read.")
    studio.page.wait_for_timeout(700)
    clip = {"x": left, "y": top, "width": WIDTH, "height": max(height, LEAST_HEIGHT)}
    return Image.open(io.BytesIO(studio.page.screenshot(clip=clip))).convert("RGB")
