"""The wipe of Compare Before and After, in ComfyUI's own front end."""

from __future__ import annotations

import io

from PIL import Image

from .look import WIDTH
from .studio import Studio

RUN = """async () => {
    app.graph.clear();
    app.canvas.ds.reset();
    const add = (kind, x) => {
        const node = LiteGraph.createNode(kind);
        node.pos = [x, 120];
        app.graph.add(node);
        return node;
    };
    const photo = add("RestorationSamplePhoto", 100), clean = add("DegradationRemover", 400);
    const compare = add("RestorationCompare", 700);
    photo.connect(0, clean, 0);
    photo.connect(0, compare, 0);
    clean.connect(0, compare, 1);
    compare.setSize([660, 640]);
    app.canvas.setDirty(true, true);
    await app.queuePrompt(0);
}"""


def wiped(studio: Studio) -> Image.Image:
    """The sample photo beside what Remove Degradation makes of it."""
    page = studio.page
    page.evaluate(RUN)
    page.wait_for_function(
        "() => document.querySelectorAll('.restoration-wipe-layer img').length === 2"
    )
    page.wait_for_timeout(500)
    shown = page.locator(".restoration-wipe-root").screenshot()
    picture = Image.open(io.BytesIO(shown)).convert("RGB")
    return picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)))
