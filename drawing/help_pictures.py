"""Makes the pictures of the help pages: web/docs/pictures/<NodeId>.jpg, one for every node.

    .venv/bin/python drawing pictures                 # all of them
    .venv/bin/python drawing pictures LRConsistency   # some

`PICTURES` says how each is made. Nothing in them is staged:

- what a node does to a picture comes out of a headless ComfyUI, with the pack installed; the
  pictures that go in may be made for it (a color cast, a stain);
- curves are drawn from the functions that the node itself calls;
- where a node needs published weights, which are not here, one sees the node and its neighbours of
  a shipped workflow, drawn by ComfyUI's own front end (Chromium).

Run it again when a node, a shipped workflow or the bundled model has changed, and look at what it
made. The photographs are the demo's (scripts/photo/README.md) and, for faces, scikit-image's `astronaut`
(Eileen Collins, by NASA, public domain).
"""

# ruff: noqa: T201
from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from ..common import fidelity, schedule, tiling
from ..diffbir.losses import edge_weights
from ..tools.comfyui.client import Prompt
from ..tools.comfyui.find import PACK_ROOT, find_chromium, find_frontend, find_host, find_newer_host
from ..tools.comfyui.process import ComfyServer
from ..zeroshot.operators import Degradation, operator_for, project

ROOT = PACK_ROOT
DOCS = ROOT / "web" / "docs"
PHOTO, REFERENCE = (
    ROOT / "scripts" / "photo" / f"{name}.jpg" for name in ("degraded", "reference")
)
WIDTH = 640
TEXT = 24
"""Size of letters: the help panel is about half as wide as a picture."""
LARGEST = 45_000
"""Bytes of a picture."""
BACK, FRAME, INK, FAINT = (24, 24, 24), (70, 70, 70), (238, 238, 238), (150, 150, 150)
COLORS = (
    (92, 184, 255),
    (255, 176, 66),
    (120, 220, 130),
    (255, 110, 130),
    (200, 150, 255),
    (230, 225, 110),
)
CAST = (120, 185, 255)
"""A cold light, as factors of 255."""

Link = list[Any]
Panel = tuple[str, Image.Image]
Crop = tuple[int, int, int, int]
Points = Sequence[tuple[float, float]]


# -- ComfyUI and its front end ---------------------------------------------------------------------


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
ARRANGE = """async ([workflow, kind, width, left, top]) => {
    await app.loadGraphData(workflow, true, true, "help");
    const graph = app.graph, margin = 8, gap = 34, row = 40, bar = 30;
    let node = graph.nodes.find(each => each.type === kind);
    if (!node) {  // no workflow has it: it takes what others take under the same names
        node = LiteGraph.createNode(kind);
        graph.add(node);
        const links = graph.nodes.flatMap(each => each.inputs.map((input, slot) => [each, input, slot]));
        for (const [slot, input] of node.inputs.entries()) {
            const alike = links.find(([each, other, at]) => each !== node
                && other.name === input.name && other.type === input.type && each.getInputNode(at));
            const link = alike && graph.getLink(alike[1].link);
            if (link) graph.getNodeById(link.origin_id).connect(link.origin_slot, node, slot);
        }
        for (const slot of node.outputs.keys()) {
            const shown = LiteGraph.createNode("PreviewImage");
            graph.add(shown);
            node.connect(slot, shown, 0);
        }
    }
    const unique = nodes => [...new Set(nodes.filter(Boolean))];
    const before = unique(node.inputs.map((_, slot) => node.getInputNode(slot)));
    const after = unique(node.outputs.flatMap((_, slot) => node.getOutputNodes(slot) ?? []))
        .filter(each => !before.includes(each));
    for (const each of [...graph.nodes])
        if (each !== node && !before.includes(each) && !after.includes(each)) graph.remove(each);
    for (const group of [...graph.groups]) graph.remove(group);
    for (const each of [...before, ...after])
        for (const slot of each.inputs.keys())
            if (each.getInputNode(slot) && each.getInputNode(slot) !== node) each.disconnectInput(slot);
    for (const each of [...before, ...after]) if (!each.flags.collapsed) each.collapse();
    node.title = node.constructor.title;
    app.canvas.draw(true, true);  // this is where a folded node gets its width
    const widest = nodes => Math.max(0, ...nodes.map(each => each._collapsed_width));
    const pen = app.canvas.ctx;
    pen.font = node.titleFontStyle;
    const least = node.computeSize();
    least[0] = Math.max(least[0], pen.measureText(node.title).width + 2 * bar);
    const beside = nodes => nodes.length && gap + widest(nodes);
    // Beside what goes in there is only room for the links that go out.
    const x = -beside(before), out = before.length ? after.length && gap : beside(after);
    const room = (width - 2 * margin) / 1.2 + x - out;
    node.setSize([Math.max(least[0], Math.min(room, 400)), least[1]]);
    const place = (nodes, left) => nodes.forEach((each, at) => {
        each.pos = [left(each), node.size[1] / 2 + (at - (nodes.length - 1) / 2) * row];
    });
    node.pos = [0, 0];
    place(before, each => -gap - each._collapsed_width);
    place(after, () => node.size[0] + gap + (before.length && margin));
    const right = node.size[0] + out;
    const tall = Math.max(node.size[1] + bar, row * Math.max(before.length, after.length));
    const scale = Math.min(1.4, (width - 2 * margin) / (right - x));
    const middle = (node.size[1] - bar) / 2, height = Math.ceil(scale * tall + 2 * margin);
    const around = app.canvasEl.getBoundingClientRect(), ds = app.canvas.ds;
    ds.scale = scale;
    ds.offset = [(left + width / 2 - around.x) / scale - (x + right) / 2,
                 (top + height / 2 - around.y) / scale - middle];
    app.canvas.deselectAll?.();
    app.canvas.setDirty(true, true);
    return [height, scale];
}"""


def in_graph(studio: Studio, kind: str, workflow: str) -> Image.Image:
    """The node of a shipped workflow with what goes in, folded, and the links that go out; with
    what comes next where nothing goes in. All three would be too small for a help panel."""
    spec = json.loads((ROOT / "workflows" / f"{workflow}.json").read_text("utf-8"))
    left, top = 640, 160  # clear of menus and panels
    height, scale = studio.page.evaluate(ARRANGE, [spec, kind, WIDTH, left, top])
    if scale < 0.9:
        raise SystemExit(f"{kind} would be drawn at {scale:.2f} of its size, too small to read.")
    studio.page.wait_for_timeout(700)
    clip = {"x": left, "y": top, "width": WIDTH, "height": height}
    return Image.open(io.BytesIO(studio.page.screenshot(clip=clip))).convert("RGB")


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
        for workflow in (ROOT / "workflows").glob("*.json"):  # else dialogs tell what is missing
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


# -- drawing ---------------------------------------------------------------------------------------


def font(size: int) -> Any:
    """Pillow's own font."""
    return ImageFont.load_default(size)


def sheet(panels: Sequence[Panel], columns: int, crop: Crop | None = None) -> Image.Image:
    """Pictures of one shape side by side, each under its label."""
    gap, line = 6, TEXT + 6
    bar = 6 + line * max(label.count("\n") + 1 for label, _ in panels)
    width = (WIDTH - gap * (columns - 1)) // columns
    pictures = [picture.crop(crop) if crop else picture for _, picture in panels]
    height = max(round(width * picture.height / picture.width) for picture in pictures)
    rows = math.ceil(len(panels) / columns)
    whole = Image.new("RGB", (WIDTH, rows * (bar + height + gap) - gap), BACK)
    draw = ImageDraw.Draw(whole)
    for index, ((label, _), picture) in enumerate(zip(panels, pictures, strict=True)):
        x, y = index % columns * (width + gap), index // columns * (bar + height + gap)
        draw.multiline_text((x + 4, y + 2), label, INK, font(TEXT))
        size = (width, round(width * picture.height / picture.width))
        enlarged = picture.width < width
        kind = Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS
        whole.paste(picture.resize(size, kind), (x, y + bar))
    return whole


class Chart:
    """Axes with curves, drawn at twice the size and made small, which smooths the lines."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], left: int = 90) -> None:
        self.x, self.y, self.height = x, y, 420
        self.box: tuple[int, int, int, int] = (left, 52, WIDTH - 28, self.height - 76)
        self.image = Image.new("RGB", (2 * WIDTH, 2 * self.height), BACK)
        self.draw = ImageDraw.Draw(self.image)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the large drawing."""
        left, top, right, bottom = self.box
        across, up = (
            (x - self.x[0]) / (self.x[1] - self.x[0]),
            (y - self.y[0]) / (self.y[1] - self.y[0]),
        )
        return 2 * (left + across * (right - left)), 2 * (bottom - up * (bottom - top))

    def text(self, x: float, y: float, text: str, color: Any = INK, anchor: str = "lm") -> None:
        """Text at a place of the finished picture."""
        self.draw.text((2 * x, 2 * y), text, color, font(2 * TEXT), anchor=anchor)

    def grid(self, xs: dict[float, str], ys: dict[float, str], title: str, below: str = "") -> None:
        """Lines and names of the axes' values."""
        left, _, right, bottom = self.box
        for x, name in xs.items():
            self.draw.line([self.at(x, self.y[0]), self.at(x, self.y[1])], FRAME, 2)
            self.text(self.at(x, 0)[0] / 2, bottom + 20, name, FAINT, "mm")
        for y, name in ys.items():
            self.draw.line([self.at(self.x[0], y), self.at(self.x[1], y)], FRAME, 2)
            self.text(left - 8, self.at(0, y)[1] / 2, name, FAINT, "rm")
        self.text(8, 22, title)
        self.text((left + right) / 2, self.height - 20, below, FAINT, "mm")

    def line(self, points: Points, color: Any) -> None:
        """A curve."""
        self.draw.line([self.at(*point) for point in points], color, 8, joint="curve")

    def label(self, x: float, y: float, text: str, color: Any, anchor: str = "lm") -> None:
        """Text at a place of the axes."""
        left, top = self.at(x, y)
        self.text(left / 2, top / 2, text, color, anchor)

    def dots(self, points: Points, color: Any, radius: float = 4) -> None:
        """A dot at each point."""
        for x, y in (self.at(*point) for point in points):
            r = 2 * radius
            self.draw.ellipse((x - r, y - r, x + r, y + r), color)

    def done(self) -> Image.Image:
        """The chart at its size."""
        return self.image.resize((WIDTH, self.height), Image.Resampling.LANCZOS)


def opened(path: Any) -> Image.Image:
    return Image.open(path).convert("RGB")


def tensor(picture: Image.Image) -> torch.Tensor:
    """1 3 H W in 0..1."""
    return torch.from_numpy(np.asarray(picture, np.float32) / 255).movedim(-1, 0)[None]


def picture_of(pixels: torch.Tensor) -> Image.Image:
    """The other way round."""
    array = (pixels[0].movedim(0, -1).clamp(0, 1) * 255).round().byte().numpy()
    return Image.fromarray(array)


def tinted(picture: Image.Image, cast: tuple[int, int, int] = CAST) -> Image.Image:
    """Under a color cast."""
    return Image.fromarray((np.asarray(picture) * (np.array(cast) / 255)).astype(np.uint8))


# -- what nodes do to a picture --------------------------------------------------------------------

CLOSE_UP = (150, 60, 330, 200)


def cleaned(studio: Studio) -> Image.Image:
    photo = opened(PHOTO)
    (after,), _ = studio.run(remove(studio, studio.photo(photo)))
    return sheet([("before", photo), ("Remove Degradation", after)], 2, CLOSE_UP)


def remove(studio: Studio, image: Link) -> Link:
    """Remove Degradation with the bundled model."""
    return [
        studio.node("DegradationRemover", image=image, tile_size=512, tile_overlap=64,
                    strength=1.0, resize_to_input=False), 0,
    ]  # fmt: skip


def color_fixed(studio: Studio, kind: str) -> Image.Image:
    sharp, photo = opened(REFERENCE), opened(PHOTO)
    cast = tinted(sharp)
    if kind == "WaveletColorFix":  # stronger to the right, which one correction for all cannot mend
        cast = Image.composite(
            cast, sharp, Image.linear_gradient("L").rotate(90).resize(sharp.size)
        )
    image, reference = studio.photo(cast), studio.photo(photo)
    (after,), _ = studio.run([studio.node(kind, image=image, reference=reference), 0])
    return sheet([("with a cast", cast), ("reference", photo), ("result", after)], 3)


def prepared(studio: Studio) -> Image.Image:
    image = studio.photo(opened(PHOTO).resize((260, 203)))
    fits = ("pad", "stretch", "black")
    made = [
        studio.node("RestorationPrepare", image=image, upscale_by=1.0, min_side=0, multiple=64,
                    fit=fit) for fit in fits
    ]  # fmt: skip
    results, _ = studio.run(*([node, 0] for node in made))
    return sheet([(f"{f}: {r.width}x{r.height}", r) for f, r in zip(fits, results, strict=True)], 3)


def finished(studio: Studio) -> Image.Image:
    photo = opened(PHOTO)
    prepare = studio.node("RestorationPrepare", image=studio.photo(photo), upscale_by=1.0,
                          min_side=0, multiple=128, fit="pad")  # fmt: skip
    color = sum(value << shift for value, shift in zip(CAST, (16, 8, 0), strict=True))
    cast = studio.node("EmptyImage", width=64, height=64, batch_size=1, color=color)
    restored = studio.node("ImageBlend", image1=remove(studio, [prepare, 0]), image2=[cast, 0],
                           blend_factor=1.0, blend_mode="multiply")  # fmt: skip
    finish = studio.node("RestorationFinish", image=[restored, 0], info=[prepare, 1],
                         color_correction_method="wavelet")  # fmt: skip
    (working, result), _ = studio.run([restored, 0], [finish, 0])
    shown = Image.new("RGB", working.size, BACK)
    shown.paste(result)
    return sheet(
        [
            (f"in: {working.width}x{working.height}, a cast", working),
            (f"out: {result.width}x{result.height}", shown),
        ],
        2,
    )


def damaged(studio: Studio) -> Image.Image:
    clean = opened(REFERENCE)
    image = studio.photo(clean)
    presets = ("realesrgan", "pasd", "diffbir_v2", "diffbir_v1_face")
    made = [
        studio.node("RealWorldDegradation", image=image, preset=preset, seed=3,
                    output_size="input_size") for preset in presets
    ]  # fmt: skip
    small = studio.node("RealWorldDegradation", image=image, preset="realesrgan", seed=3,
                        output_size="quarter_size")  # fmt: skip
    results, _ = studio.run(*([node, 0] for node in (*made, small)))
    quarter = Image.new("RGB", clean.size, BACK)
    quarter.paste(results[-1], ((clean.width - results[-1].width) // 2, 150))
    panels = [("clean", clean), *zip(presets, results[:-1], strict=True)]
    return sheet([*panels, ("quarter_size", quarter)], 3)


def consistency(studio: Studio) -> Image.Image:
    """A stain that the photo does not have, painted into the clean original."""
    result = opened(REFERENCE)
    lr = result.resize((result.width // 2, result.height // 2), Image.Resampling.BICUBIC)
    stain = (
        Image.radial_gradient("L").resize((150, 120)).point([max(0, 170 - v) for v in range(256)])
    )
    result.paste(Image.new("RGB", stain.size, (60, 190, 90)), (230, 130), stain)
    compared = studio.node("LRConsistency", result=studio.photo(result), lr=studio.photo(lr),
                           threshold=16.0, softness=0.0, downscale=1.0)  # fmt: skip
    mask = studio.node("MaskToImage", mask=[compared, 2])
    (heat, marked), psnr = studio.run([compared, 1], [mask, 0], text=[compared, 0])
    panels = [
        ("lr", lr),
        ("result, a stain added", result),
        (f"heatmap, {float(psnr):.1f} dB", heat),
        ("mask", marked),
    ]
    return sheet(panels, 2)


def measured(studio: Studio) -> Image.Image:
    photo, clean = opened(PHOTO), opened(REFERENCE)
    panels: list[Panel] = []
    for label, method in (("photo", None), ("cleaned", remove)):
        image = studio.photo(photo)
        image = method(studio, image) if method else image
        figures = studio.node("RestorationMetrics", image=image, reference=studio.photo(clean),
                              crop_border=0, lpips=False)  # fmt: skip
        (picture,), text = studio.run(image, text=[figures, 3])
        panels.append((f"{label}:\n{text}", picture))
    return sheet(panels, 2, CLOSE_UP)


def astronaut() -> tuple[Image.Image, Image.Image]:
    """A small noisy portrait and a painted mask of the face."""
    from skimage import data

    clean = Image.fromarray(data.astronaut()).crop((60, 0, 400, 260))
    noise = np.random.default_rng(1).normal(0, 16, (clean.height, clean.width, 3))
    noisy = np.clip(np.asarray(clean) + noise, 0, 255).astype(np.uint8)
    mask = Image.new("RGB", clean.size)
    ImageDraw.Draw(mask).ellipse((112, 58, 214, 192), "white")
    return Image.fromarray(noisy), mask


def faces(studio: Studio, kind: str) -> Image.Image:
    photo, mask = astronaut()
    image = studio.photo(photo)
    painted = studio.node("ImageToMask", image=studio.photo(mask), channel="red")
    crop = studio.node("RestorationFaceCrop", image=image, detector="yunet", confidence=0.7,
                       mask=[painted, 0])  # fmt: skip
    better = remove(studio, [crop, 0])
    paste = studio.node("RestorationFacePaste", image=image, faces=better, info=[crop, 1],
                        feather=0.05)  # fmt: skip
    (before, after, pasted), _ = studio.run([crop, 0], better, [paste, 0])
    veil = Image.composite(Image.new("RGB", photo.size, COLORS[0]), photo,
                           mask.convert("L").point([v // 3 for v in range(256)]))  # fmt: skip
    if kind == "RestorationFaceCrop":
        return beside([("a painted mask", veil), ("faces: 512x512", before)])
    return beside([("faces, cleaned", after), ("pasted back", pasted)])


def beside(panels: Sequence[Panel], gap: int = 6, bar: int = TEXT + 12) -> Image.Image:
    """Pictures of any shape at one height."""
    height = round((WIDTH - gap * (len(panels) - 1)) / sum(p.width / p.height for _, p in panels))
    whole = Image.new("RGB", (WIDTH, height + bar), BACK)
    draw, x = ImageDraw.Draw(whole), 0
    for label, picture in panels:
        width = round(height * picture.width / picture.height)
        draw.text((x + 4, 2), label, INK, font(TEXT))
        whole.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (x, bar))
        x += width + gap
    return whole


def latent_adain(studio: Studio) -> Image.Image:
    """Through core's `pixel_space` VAE, whose latent is the picture itself."""
    content = opened(REFERENCE)
    red, green, blue = content.crop((40, 0, 240, 156)).resize(content.size).split()
    blue_cup = Image.merge("RGB", (blue, green, red))
    style = Image.blend(blue_cup, Image.new("RGB", blue_cup.size, (190, 200, 190)), 0.45)
    vae = [studio.node("VAELoader", vae_name="pixel_space"), 0]
    latent, reference = (
        [studio.node("VAEEncode", pixels=studio.photo(picture), vae=vae), 0]
        for picture in (content, style)
    )
    fixed = studio.node("LatentAdaIN", latent=latent, reference=reference, strength=1.0)
    (after,), _ = studio.run([studio.node("VAEDecode", samples=[fixed, 0], vae=vae), 0])
    return sheet([("latent (pixels)", content), ("reference", style), ("result", after)], 3)


def prompts(studio: Studio) -> Image.Image:
    """The texts themselves, for the same words."""
    words = {"prompt": "a cup of coffee", "tags": "cup, table, spoon"}
    whole = Image.new("RGB", (WIDTH, 1000), BACK)
    draw, y = ImageDraw.Draw(whole), 8
    for style in ("diffbir_v2", "pasd", "seesr"):
        node = studio.node("RestorationPrompt", style=style, negative_prompt="", caption="",
                           classes="", objects="", **words)  # fmt: skip
        joined = studio.node("StringConcatenate", string_a=[node, 0], string_b=[node, 1],
                             delimiter="\n")  # fmt: skip
        _, text = studio.run(text=[joined, 0])
        draw.text((8, y), style, COLORS[0], font(TEXT))
        y += 32
        for line, color, sign in zip(text.split("\n"), (COLORS[2], COLORS[3]), "+-", strict=True):
            draw.text((12, y), sign, color, font(TEXT))
            for part in wrapped(line, WIDTH - 44, draw):
                draw.text((36, y), part, INK, font(TEXT))
                y += 30
        y += 12
    return whole.crop((0, 0, WIDTH, y))


def wrapped(text: str, width: int, draw: ImageDraw.ImageDraw) -> list[str]:
    """Lines that fit."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font(TEXT)) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


# -- what nodes compute ----------------------------------------------------------------------------

TABLE = schedule.sigmas_from(schedule.scaled_linear_alphas())
"""Noise levels of Stable Diffusion 1.x and 2.x."""


def sigmas(_: Studio) -> Image.Image:
    steps = {"diffbir_edm": 10, "pasd_unipc": 20, "pasd_unipc_original": 20, "seesr_turbo": 2}
    zero = -1.85  # where the axis has room for sigma 0
    chart = Chart((math.log10(20), zero - 0.1), (0, len(schedule.SCHEDULES)), left=246)
    chart.grid({math.log10(s): f"{s:g}" for s in (10, 1, 0.1)} | {zero: "0"}, {},
               "Noise levels of the authors' runs", "sigma")  # fmt: skip
    for row, name in enumerate(schedule.SCHEDULES):
        levels = schedule.schedule_sigmas(name, TABLE, steps.get(name, 50)).tolist()
        color, y = COLORS[row % len(COLORS)], len(schedule.SCHEDULES) - row - 0.5
        chart.dots([(math.log10(level) if level else zero, y) for level in levels], color, 4)
        chart.text(236, chart.at(0, y)[1] / 2, name, color, "rm")
    return chart.done()


def guidance(_: Studio) -> Image.Image:
    """cfg 4 over the run; outside a range it is 1."""
    cfg, percents = 4.0, [i / 200 for i in range(201)]
    growing = [schedule.growing_cfg(cfg, schedule.LAST * (1 - p)) for p in percents]
    chart = Chart((0, 1), (0, 5.5))
    chart.grid({x / 4: f"{x / 4:g}" for x in range(5)}, {y: str(y) for y in range(6)},
               "Guidance with the sampler's cfg at 4",
               "part of the run")  # fmt: skip
    chart.line([(0, cfg), (1, cfg)], FAINT)
    chart.label(0.01, 4.35, "without the node", FAINT)
    chart.line([(0, 1), (0.2, 1), (0.2, cfg), (0.6, cfg), (0.6, 1), (1, 1)], COLORS[0])
    chart.label(0.22, 2.5, "start 0.2, end 0.6", COLORS[0])
    chart.line(list(zip(percents, growing, strict=True)), COLORS[1])
    chart.label(0.86, 3.3, "rescale on", COLORS[1], "rm")
    return chart.done()


def tiles(_: Studio) -> Image.Image:
    """The plan with the node's defaults for a picture of 2048x1408, and each tile's share."""
    photo = opened(REFERENCE).crop((0, 24, 512, 376))
    height, width, cell = 176, 256, 2  # latent cells, and pixels of the photo for one
    plan = tiling.plan_tiles(height, width, 96, 16)
    outlined = ImageEnhance.Brightness(photo).enhance(0.75)
    draw = ImageDraw.Draw(outlined)
    mixed = torch.zeros(3, height, width, dtype=torch.float64)
    shares = tiling.normalised_weights(plan)
    for index, (tile, share) in enumerate(zip(plan, shares, strict=True)):
        color, inset = COLORS[index % len(COLORS)], 3 * (index % 2)
        left, top = tile.x * cell + inset, tile.y * cell + inset
        right, bottom = (tile.x + tile.width) * cell - inset, (tile.y + tile.height) * cell - inset
        draw.rectangle((left, top, right - 1, bottom - 1), outline=color, width=3)
        tile.crop(mixed).add_(share * torch.tensor(color)[:, None, None] / 255)
    colored = picture_of(mixed[None]).resize(photo.size)
    gray = photo.convert("L").convert("RGB")
    return sheet([(f"{len(plan)} tiles of 768", outlined),
                  ("share of each tile", Image.blend(gray, colored, 0.6))], 2)  # fmt: skip


def null_space(_: Studio) -> Image.Image:
    """The projection, on stand-ins for what a model would predict."""
    photo = opened(REFERENCE)
    known = tensor(photo)
    hole = torch.ones_like(known[:, :1])
    hole[..., 150:250, 200:330] = 0
    guesses: dict[Degradation, tuple[torch.Tensor, float | torch.Tensor]] = {
        "average_pool": (tensor(tinted(photo, (150, 190, 255))), 1.0),
        "inpaint": (tensor(tinted(photo.filter(ImageFilter.GaussianBlur(3)))), hole),
        "grayscale": (tensor(photo.filter(ImageFilter.GaussianBlur(8))), 1.0),
    }
    panels: list[Panel] = []
    for name, (guess, weight) in guesses.items():
        operator = operator_for(name, 16)
        measured = operator.invert(operator.degrade(known), known) * weight
        result = project(guess, known, operator, weight)
        panels += [(f"{name}:", picture_of(measured)), ("a guess", picture_of(guess)),
                   ("projected", picture_of(result))]  # fmt: skip
    return sheet(panels, 3)


def start_points(_: Studio) -> Image.Image:
    """sqrt(A) of each start: how much of the picture is under the noise."""
    last = schedule.signal(TABLE, schedule.LAST)
    levels = range(0, 1000, 5)
    twice = [(level, 100 * math.sqrt(last * schedule.signal(TABLE, level))) for level in levels]
    chart = Chart((0, 999), (-0.4, 8))
    chart.grid({x: str(x) for x in (0, 250, 500, 900)}, {y: f"{y} %" for y in (0, 2, 4, 6, 8)},
               "Share of the photo in the start",
               "added_noise_level (for pasd)")  # fmt: skip
    share, default = (100 * math.sqrt(last * other) for other in (1, schedule.signal(TABLE, 900)))
    chart.line([(0, share), (999, share)], COLORS[0])
    chart.label(990, share + 0.5, "seesr, diffbir", COLORS[0], "rm")
    chart.line(twice, COLORS[1])
    chart.label(550, 3.6, "pasd", COLORS[1])
    chart.dots([(900, default)], COLORS[1], 6)
    chart.label(990, 2.4, f"900: {default:.1f} %", COLORS[1], "rm")
    chart.line([(0, 0), (999, 0)], FAINT)
    chart.label(10, 0.5, "noise", FAINT)
    return chart.done()


def flat_areas(_: Studio) -> Image.Image:
    photo = opened(REFERENCE)
    weights = edge_weights(tensor(photo) * 2 - 1)
    return sheet([("image", photo),
                  ("rgb_weighted_mse", picture_of(weights.expand(1, 3, -1, -1)))],
                 2)  # fmt: skip


def noise_tables(_: Studio) -> Image.Image:
    """sigma of every timestep, with and without zero terminal SNR."""
    alphas = schedule.zero_terminal_snr(schedule.scaled_linear_alphas())
    zero = schedule.sigmas_from(alphas).clamp(max=schedule.TERMINAL_SIGMA)
    chart = Chart((0, 999), (-1.7, 4.3))
    chart.grid({x: str(x) for x in (0, 250, 500, 750)},
               {y: f"{10**y:g}" for y in (-1, 0, 1, 2, 3, 4)},
               "Noise level (sigma) of every timestep", "timestep")  # fmt: skip
    for table, color in ((zero, COLORS[1]), (TABLE, COLORS[0])):
        chart.line([(t, math.log10(sigma)) for t, sigma in enumerate(table.tolist())], color)
    chart.label(980, 3.7, "v2.1: up to pure noise", COLORS[1], "rm")
    chart.label(990, 0.25, f"eps: up to {float(TABLE[-1]):.1f}", COLORS[0], "rm")
    return chart.done()


def dial(_: Studio) -> Image.Image:
    """What the number does to each knob that stands at the authors' setting."""
    values = [i / 100 for i in range(101)]
    chart = Chart((0, 1), (0, 2.1))
    chart.box = (70, 52, WIDTH - 28, chart.height - 130)
    chart.grid({0: "free", 0.5: "0.5: the authors", 1: "1"},
               {y / 2: f"{y / 2:g}" for y in range(5)}, "What fidelity does to each knob")  # fmt: skip
    knobs: dict[str, Callable[[float], float]] = {
        "guidance: scale x": partial(fidelity.guidance_scale, 1.0),
        "control: strength x": partial(fidelity.control_strength, 1.0),
        "StyleID: gamma": partial(fidelity.between, 0.0, 0.75, 1.0),
        "pasd start: noise / 1000": noise_share,
        "finish: share of the photo": fidelity.blend_weight,
    }
    for index, (color, (label, knob)) in enumerate(zip(COLORS, knobs.items(), strict=False)):
        chart.line([(value, knob(value)) for value in values], color)
        chart.text(8 + 290 * (index % 2), chart.height - 80 + 32 * (index // 2), label, color)
    return chart.done()


def noise_share(value: float) -> float:
    return fidelity.noise_level(900, schedule.LAST, value) / 1000


PICTURES: dict[str, Callable[[Studio], Image.Image]] = {
    "DegradationRemover": cleaned,
    "WaveletColorFix": partial(color_fixed, kind="WaveletColorFix"),
    "AdaINColorFix": partial(color_fixed, kind="AdaINColorFix"),
    "RestorationPrepare": prepared,
    "RestorationFinish": finished,
    "RealWorldDegradation": damaged,
    "LRConsistency": consistency,
    "RestorationMetrics": measured,
    "RestorationFaceCrop": partial(faces, kind="RestorationFaceCrop"),
    "RestorationFacePaste": partial(faces, kind="RestorationFacePaste"),
    "LatentAdaIN": latent_adain,
    "RestorationPrompt": prompts,
    "RestorationSigmas": sigmas,
    "RestorationCFG": guidance,
    "TiledRestoration": tiles,
    "DDNMGuidance": null_space,
    "LREmbeddedNoise": start_points,
    "LatentImageGuidance": flat_areas,
    "DiffBIRModelSampling": noise_tables,
    "RestorationFidelity": dial,
} | {
    kind: partial(in_graph, kind=kind, workflow=workflow)
    for kind, workflow in {
        "DiffBIRControlLoader": "diffbir_v2_upscale",
        "LAControlApply": "diffbir_v2_upscale",
        "PASDLoader": "pasd_upscale",
        "PACAControlApply": "pasd_upscale",
        "PASDPyramidPreview": "pasd_upscale",
        "HighLevelPrompt": "pasd_upscale",
        "RestorationSampler": "pasd_upscale",
        "SeeSRLoader": "seesr_turbo_upscale",
        "SeeSRControlApply": "seesr_upscale",
        "DAPELoader": "seesr_upscale",
        "DAPETagger": "seesr_upscale",
        "StyleIDInvert": "styleid_transfer",
        "StyleIDApply": "styleid_transfer",
        "TiledVAEEncodeExact": "diffbir_upscale_4k_tiled",
        "TiledVAEDecodeExact": "diffbir_upscale_4k_tiled",
    }.items()
}
"""How each is made."""


def save(picture: Image.Image, kind: str) -> None:
    """As the best JPEG that is small enough."""
    path = DOCS / "pictures" / f"{kind}.jpg"
    for quality in range(90, 40, -5):
        picture.save(path, quality=quality, optimize=True)
        if path.stat().st_size <= LARGEST:
            break
    print(f"{kind}: {picture.width}x{picture.height}, {path.stat().st_size // 1000} KB", flush=True)


def main(arguments: Sequence[str]) -> None:
    """Makes the pictures named on the command line, else those of every help page."""
    names = arguments or sorted(page.stem for page in DOCS.glob("*.md"))
    if unknown := [name for name in names if name not in PICTURES]:
        raise SystemExit(f"PICTURES does not say how to make {', '.join(unknown)}.")
    (DOCS / "pictures").mkdir(exist_ok=True)
    with open_studio() as studio:
        for name in names:
            save(PICTURES[name](studio), name)
