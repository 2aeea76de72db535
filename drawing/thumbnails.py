"""Thumbnails of the workflows for ComfyUI's template browser.

    .venv/bin/python drawing thumbnails                       what goes in, and the way through
    .venv/bin/python drawing thumbnails NAME BEFORE AFTER     before and after, from a run

The first draws a real photo, damaged as the papers damage theirs (common/degradation.py), over the
steps of the workflow: no result is shown that nobody has computed. Whoever has the weights makes
the second from a run's pictures, as `quick_restore` has it from scripts/demo.sh. The photographs come
with scikit-image and are in the public domain or CC0: coffee, cat, camera, rocket, astronaut, Hubble
deep field (see NOTICE).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..common.degradation import degrade
from ..common.jpeg import jpeg_round_trip
from ..registry import presets
from ..tools.panel import halves, panel
from .build import workflows

SIDE, PHOTO = 512, 356
"""The square, and the height of its photo."""
DARK, LIGHT, PALE = "#16181f", "#ffffff", "#9cc9ff"

Box = tuple[int, int, int, int]


def photo(name: str, box: Box | None = None) -> Image.Image:
    """A photograph of scikit-image, or a part of it (left, top, right, bottom)."""
    from skimage import data

    picture = Image.fromarray(getattr(data, name)()).convert("RGB")
    return picture.crop(box) if box else picture


def damaged(picture: Image.Image, preset: str = "realesrgan", seed: int = 1) -> Image.Image:
    """A quarter of the size with blur, noise and JPEG, as training data is made."""
    pixels = torch.from_numpy(np.array(picture)).movedim(-1, 0)[None] / 255
    small = degrade(
        pixels, presets()[preset], [seed], "quarter_size", jpeg_round_trip, lambda: None
    )
    return Image.fromarray((small[0].movedim(0, -1) * 255).byte().numpy())


def noisy(picture: Image.Image, deviation: float = 20) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, deviation, (picture.height, picture.width, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def gray(picture: Image.Image) -> Image.Image:
    return ImageOps.grayscale(picture).convert("RGB")


def scratched(picture: Image.Image) -> Image.Image:
    """White scratches, as a mask is painted over them."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    for start, end in (((0.1, 0), (0.45, 1)), ((0.95, 0.2), (0.3, 0.62)), ((0.6, 1), (0.8, 0.5))):
        ends = [(x * width, y * height) for x, y in (start, end)]
        draw.line(ends, "white", max(3, width // 60))
    return picture


def gridded(picture: Image.Image) -> Image.Image:
    """With the borders of tiles over it."""
    picture = ImageOps.fit(picture, (SIDE, PHOTO))
    draw = ImageDraw.Draw(picture)
    for left in range(0, SIDE, 128):
        for top in range(0, PHOTO, 89):
            draw.rectangle((left + 4, top + 4, left + 150, top + 108), outline=LIGHT)
    return picture


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures that both go in."""
    both = [("", ImageOps.fit(picture, (SIDE // 2 - 2, PHOTO))) for picture in (left, right)]
    return panel([both], SIDE, gap=4)


@dataclass(frozen=True)
class Card:
    """What a workflow is shown by."""

    title: str
    does: str
    way: str
    goes_in: Callable[[], Image.Image] | None = None
    """None where before and after can be shown."""


CAT, CUP = (60, 0, 400, 240), (64, 0, 576, 400)
FACE = (80, 0, 368, 200)
CARDS = {
    "quick_restore": Card("Quick restore", "No download", "the bundled light model > photo's colors"),
    "diffbir_v2_upscale": Card(
        "DiffBIR v2", "Upscale x4", "BSRNet x4 > SD 2.1 + control > 50 steps",
        lambda: damaged(photo("chelsea", CAT), seed=21),
    ),
    "diffbir_v2.1_upscale": Card(
        "DiffBIR v2.1", "Upscale x4", "SwinIR > SD 2.1 v + control > 10 steps",
        lambda: damaged(photo("coffee", CUP), seed=5),
    ),
    "diffbir_denoise": Card(
        "DiffBIR v2", "Denoise", "SCUNet > SD 2.1 + control > 50 steps",
        lambda: noisy(photo("rocket", (100, 60, 440, 300))),
    ),
    "diffbir_face": Card(
        "DiffBIR v2", "Faces in a photo, x2", "crop faces > restore both > paste back",
        lambda: damaged(photo("astronaut", FACE), seed=3),
    ),
    "diffbir_upscale_4k_tiled": Card(
        "DiffBIR v2", "To 4K in tiles", "BSRNet x4 > tiles of 512 > 4096 pixels",
        lambda: gridded(photo("coffee")),
    ),
    "pasd_upscale": Card(
        "PASD", "Upscale x2", "SD 1.5 + pixel attention > 20 steps",
        lambda: damaged(photo("astronaut", (0, 0, 512, 356)), "pasd", 2),
    ),
    "pasd_light_upscale": Card(
        "PASD light", "Upscale x2, faster", "SD 1.5 + light pixel attention > 20 steps",
        lambda: damaged(photo("chelsea", CAT), "pasd", 4),
    ),
    "pasd_stylization": Card(
        "PASD", "Stylize", "your checkpoint + PASD > 20 steps",
        lambda: photo("astronaut", (0, 0, 512, 356)),
    ),
    "pasd_colorization": Card(
        "PASD", "Colorize", "brightness > SD 1.5 + PASD color > colors back",
        lambda: gray(photo("chelsea", CAT)),
    ),
    "pasd_sdxl_upscale": Card(
        "PASD-SDXL", "Upscale x2", "SDXL + pixel attention > 25 steps",
        lambda: damaged(photo("coffee", CUP), "pasd", 6),
    ),
    "pasd_upscale_4k_tiled": Card(
        "PASD", "To 4K in tiles", "SD 1.5 + pixel attention > tiles of 768",
        lambda: gridded(photo("astronaut", (0, 0, 512, 356))),
    ),
    "seesr_upscale": Card(
        "SeeSR", "Upscale x4", "DAPE tags > SD 2 + tag attention > 50 steps",
        lambda: damaged(photo("chelsea", CAT), seed=10),
    ),
    "seesr_turbo_upscale": Card(
        "SeeSR-Turbo", "Upscale x4 in two steps", "DAPE tags > SD-Turbo > 2 steps",
        lambda: damaged(photo("coffee", CUP), seed=9),
    ),
    "seesr_upscale_4k_tiled": Card(
        "SeeSR", "To 4K in tiles", "tags for every tile > tiles of 768",
        lambda: gridded(photo("chelsea")),
    ),
    "pisasr_upscale": Card(
        "PiSA-SR", "Upscale x4 in one step", "SD 2.1 + 32 MB > 1 step > two dials",
        lambda: damaged(photo("coffee", CUP), seed=12),
    ),
    "pisasr_upscale_4k_tiled": Card(
        "PiSA-SR", "To 4K in one step", "SD 2.1 + 32 MB > tiles of 768 > 4096 pixels",
        lambda: gridded(photo("rocket")),
    ),
    "osediff_upscale": Card(
        "OSEDiff", "Upscale x4 in one step", "DAPE tags > SD 2.1 + 18 MB > 1 step",
        lambda: damaged(photo("chelsea", CAT), seed=14),
    ),
    "osediff_face": Card(
        "OSEDiff", "Faces in one step", "crop faces > 1 step > paste back",
        lambda: damaged(photo("astronaut", FACE), seed=8),
    ),
    "pisasr_all_nodes": Card(
        "PiSA-SR", "All nodes", "what Restore with PiSA-SR is made of",
        lambda: damaged(photo("coffee", CUP), seed=12),
    ),
    "osediff_all_nodes": Card(
        "OSEDiff", "All nodes", "what Restore with OSEDiff is made of",
        lambda: damaged(photo("chelsea", CAT), seed=14),
    ),
    "tag_and_prompt": Card(
        "SeeSR", "Tag a degraded photo", "DAPE > tags > prompt",
        lambda: damaged(photo("camera"), seed=3),
    ),
    "finetune_pasd": Card(
        "PASD light", "Fine-tune on your pictures", "damage > learn > save",
        lambda: beside(photo("coffee", CUP), damaged(photo("coffee", CUP), "pasd", 7)),
    ),
    "diffbir_v2_all_nodes": Card(
        "DiffBIR v2", "All nodes", "what Restore with DiffBIR is made of",
        lambda: damaged(photo("chelsea", CAT), seed=21),
    ),
    "pasd_all_nodes": Card(
        "PASD", "All nodes", "what Restore with PASD is made of",
        lambda: damaged(photo("astronaut", (0, 0, 512, 356)), "pasd", 2),
    ),
    "seesr_all_nodes": Card(
        "SeeSR", "All nodes", "what Restore with SeeSR is made of",
        lambda: damaged(photo("chelsea", CAT), seed=10),
    ),
    "styleid_transfer": Card(
        "StyleID", "Paint in another picture's style", "both to noise > content asks, style answers",
        lambda: beside(photo("astronaut", (60, 0, 380, 356)), photo("hubble_deep_field")),
    ),
    "restore_then_style": Card(
        "DiffBIR + StyleID", "Restore, then paint", "DiffBIR v2, x2 > StyleID, 50 steps",
        lambda: beside(
            gray(damaged(photo("astronaut", (60, 0, 380, 356)), seed=2)), photo("hubble_deep_field")
        ),
    ),
    "repaint_inpaint": Card(
        "RePaint", "Fill a large hole", "back under noise, again and again",
        lambda: scratched(photo("chelsea", CAT)),
    ),
    "luma_color": Card(
        "DDNM", "Color, brightness kept", "luma > any checkpoint > luma put back",
        lambda: gray(photo("coffee", CUP)),
    ),
    "bicubic_seesr": Card(
        "SeeSR + DDNM", "Enlarge, small photo kept", "SeeSR draws > made small, it is the photo",
        lambda: damaged(photo("rocket", (100, 60, 440, 300)), seed=17),
    ),
    "jpeg_repair": Card(
        "DDNM", "Repair an old JPEG", "what the file says > any checkpoint",
        lambda: damaged(photo("coffee", CUP), seed=23),
    ),
    "ddnm_inpaint": Card(
        "DDNM", "Fill a hole, keep the rest", "paint a mask > only the hole is new",
        lambda: scratched(photo("camera")),
    ),
}  # fmt: skip
"""By workflow."""


def draw(card: Card, picture: Image.Image, label: str) -> Image.Image:
    sheet = Image.new("RGB", (SIDE, SIDE), DARK)
    sheet.paste(ImageOps.fit(picture, (SIDE, PHOTO), Image.Resampling.BICUBIC))
    pen = ImageDraw.Draw(sheet)
    small = ImageFont.load_default(17)
    pen.rounded_rectangle((10, 10, 24 + pen.textlength(label, small), 38), 8, DARK)
    pen.text((17, 14), label, PALE, small)
    pen.text((20, PHOTO + 10), card.title, LIGHT, ImageFont.load_default(36))
    pen.text((20, PHOTO + 60), card.does, PALE, ImageFont.load_default(25))
    pen.text((20, PHOTO + 109), card.way, LIGHT, fitting(pen, card.way))
    return sheet


def fitting(pen: ImageDraw.ImageDraw, text: str) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest type in which the text fits into the card."""
    sizes = (ImageFont.load_default(size) for size in range(22, 9, -1))
    return next(font for font in sizes if pen.textlength(text, font) <= SIDE - 40)


def split(before: Path, after: Path) -> Image.Image:
    """The left half before, the right half after."""
    result, earlier = (Image.open(path).convert("RGB") for path in (after, before))
    earlier = earlier.resize(result.size, Image.Resampling.BICUBIC)
    shown = (
        ImageOps.fit(each, (SIDE, PHOTO), Image.Resampling.LANCZOS) for each in (earlier, result)
    )
    return halves(*shown)


def save(name: str, picture: Image.Image) -> None:
    picture.save(workflows()[name].path.with_suffix(".jpg"), quality=82, optimize=True)


def main(arguments: Sequence[str]) -> None:
    """Every card of what goes in; or, with NAME BEFORE AFTER, one of a run."""
    if arguments:
        name, before, after = arguments
        save(name, draw(CARDS[name], split(Path(before), Path(after)), "before and after"))
        return
    for name, card in CARDS.items():
        if card.goes_in:
            save(name, draw(card, card.goes_in(), "goes in"))
