"""Restores one photo through the shipped workflow and shows what it did.

    bash scripts/demo.sh                 the bundled photo, whose clean original is known
    bash scripts/demo.sh photo.jpg       yours
    bash scripts/demo.sh photo.jpg --reference clean.png --output DIR
    bash scripts/demo.sh photo.jpg --fidelity 0.7      keeps more of the photo as it was

It reads and writes pictures as the folder runner does, and like that replaces no file that it did not
make: the manifest in the output folder says which it did.

Runs `workflows/api/quick_restore.json` in a headless ComfyUI on the CPU (`--gpu`: on the device
that ComfyUI chooses). Where none can be had it calls the same functions without it.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import os
import runpy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()

from restoration.tools.comfyui.client import Progress, Prompt, PromptError, read_prompt  # noqa: E402
from restoration.tools.comfyui.find import Host, HostError, find_host, find_newer_host  # noqa: E402
from restoration.tools.comfyui.process import ComfyServer  # noqa: E402
from restoration.tools.files import sha256  # noqa: E402
from restoration.tools.folder.errors import UsageError  # noqa: E402
from restoration.tools.folder.output import Output, claim  # noqa: E402
from restoration.tools.folder.pictures import (  # noqa: E402
    Picture,
    read_picture,
    rgb_psnr,
    save_picture,
)
from restoration.tools.folder.workflow import LOADS  # noqa: E402
from restoration.tools.panel import Labeled, halves, panel  # noqa: E402

WORKFLOW = ROOT / "workflows" / "api" / "quick_restore.json"
PHOTO = ROOT / "scripts" / "photo" / "degraded.jpg"
REFERENCE = ROOT / "scripts" / "photo" / "reference.jpg"
PANEL_WIDTH = 640
THUMBNAIL = 448
RESULTS = ("restored.png", "comparison.png", "split.jpg")
"""What is written, after the photo's name."""
LONGEST_STEM = 200
"""Bytes of a photo's name that come back in those of its results; file systems allow 255."""


@dataclass(frozen=True)
class Restored:
    """A result and where it was made."""

    data: bytes
    """A PNG."""
    where: str
    seconds: float

    @property
    def image(self) -> Image.Image:
        """Its pixels, in RGB."""
        return Image.open(io.BytesIO(self.data)).convert("RGB")


class ProgressLine:
    """One line per node at work; on a terminal it grows a bar."""

    def __init__(self, titles: dict[str, str]) -> None:
        self.titles = titles
        self.node = ""

    def __call__(self, step: Progress) -> None:
        title = self.titles.get(step.node, step.node)
        if sys.stdout.isatty():
            done = round(24 * step.value / step.maximum) if step.maximum else 0
            count = f"{step.value:g}/{step.maximum:g}" if step.maximum else ""
            start = "\n" if step.node != self.node and self.node else "\r"
            print(f"{start}  {title:<22} {'█' * done:░<24} {count:<9}", end="", flush=True)
        elif step.node != self.node:
            print(f"  {title}", flush=True)
        self.node = step.node

    def close(self) -> None:
        """Ends the line that the terminal's bar is on."""
        if sys.stdout.isatty() and self.node:
            print()


def with_settings(prompt: Prompt, settings: dict[str, dict[str, Any]]) -> Prompt:
    """The workflow with other inputs, by the class of their node."""
    return {
        node: {**spec, "inputs": {**spec["inputs"], **settings.get(spec["class_type"], {})}}
        for node, spec in prompt.items()
    }


def titles_of(prompt: Prompt) -> dict[str, str]:
    """What to call each node while it is at work."""
    return {
        node: spec.get("_meta", {}).get("title", spec["class_type"])
        for node, spec in prompt.items()
    }


def restore_in_host(picture: Picture, fidelity: float, host: Host, cpu: bool) -> Restored:
    """Runs the shipped workflow in a headless ComfyUI."""
    prompt = read_prompt(WORKFLOW)
    print(f"Starting ComfyUI {host.version} without a window ...", flush=True)
    with ComfyServer(host, cpu=cpu) as server:
        line = ProgressLine(titles_of(prompt))
        name = server.upload(picture.data, f"photo{picture.suffix}")
        settings = {key: {"image": name} for key in LOADS}
        settings["RestorationFinish"] = {"fidelity": fidelity}
        try:
            result = server.run(with_settings(prompt, settings), line, timeout=3600)
        finally:
            line.close()
        data = server.fetch(result.images("output")[0])
    return Restored(data, f"ComfyUI {host.version}", result.seconds)


def restore_without_host(photo: Image.Image, fidelity: float) -> Restored:
    """The same functions with the shipped workflow's settings, called without ComfyUI."""
    import torch

    from restoration.common.sizing import finish, prepare
    from restoration.stage1 import restorer

    prompt = read_prompt(WORKFLOW)
    settings = {spec["class_type"]: widgets(spec["inputs"]) for spec in prompt.values()}
    remover = settings["DegradationRemover"]
    tiles = itertools.count(1)

    def on_tile() -> None:
        print(f"  Remove Degradation: tile {next(tiles)}", flush=True)

    started = time.monotonic()
    network = restorer.load_bundled()
    run = restorer.unclamped(network, restorer.BUNDLED_PADDING)
    image = torch.from_numpy(np.asarray(photo, np.float32) / 255)[None]
    with torch.inference_mode():
        working, info = prepare(image, **settings["RestorationPrepare"])
        pixels = working.movedim(-1, 1)
        tiling = (remover["tile_size"], remover["tile_overlap"])
        cleaned = restorer.restore(pixels, run, network.scale, *tiling, on_tile)
        cleaned = restorer.blend(pixels, cleaned, remover["strength"])
        finishing = settings["RestorationFinish"] | {"fidelity": fidelity}
        result = finish(cleaned.movedim(1, -1), info, **finishing)
    seconds = time.monotonic() - started
    array = (result[0].numpy() * 255).astype(np.uint8)  # truncated, as Save Image does
    return Restored(packed(Image.fromarray(array), "PNG"), "without ComfyUI", seconds)


def widgets(inputs: dict[str, Any]) -> dict[str, Any]:
    """A node's settings without its links."""
    return {name: value for name, value in inputs.items() if not isinstance(value, list)}


def restore_photo(picture: Picture, fidelity: float, cpu: bool) -> Restored:
    """In ComfyUI where there is one that starts, else without."""
    assert picture.pixels
    host = find_host() or find_newer_host()
    if host is None:
        print("No ComfyUI found or installed: running the same functions without it.", flush=True)
        return restore_without_host(picture.pixels, fidelity)
    try:
        return restore_in_host(picture, fidelity, host, cpu)
    except HostError as error:
        print(error, file=sys.stderr)
        print("That ComfyUI does not run here: running the same functions without it.", flush=True)
        return restore_without_host(picture.pixels, fidelity)


# -- figures and pictures --------------------------------------------------------------------------


def ssim(image: Image.Image, reference: Image.Image) -> float:
    """SSIM of the luma as JPEG files have it (full range, 8 bits)."""
    import torch

    from restoration.common import metrics

    pair = (torch.tensor(np.asarray(each.convert("L")))[None, None] for each in (image, reference))
    return metrics.ssim(*pair, peak=255).item()


def rated(image: Image.Image, reference: Image.Image) -> str:
    """Its figures; SSIM's window does not fit into the smallest pictures."""
    from restoration.common.metrics import WINDOW

    words = f"{rgb_psnr(image, reference):.2f} dB"
    if min(reference.size) >= WINDOW:
        words += f", SSIM {ssim(image, reference):.3f}"
    return words


def side_by_side(panels: list[Labeled]) -> Image.Image:
    """The pictures under their labels, and below each its middle, enlarged."""
    gap, width = 8, min(panels[0][1].width, PANEL_WIDTH)
    middles = [("", middle(picture, width)) for _, picture in panels]
    return panel([panels, middles], len(panels) * (width + gap) - gap, gap=gap)


def middle(picture: Image.Image, width: int) -> Image.Image:
    """The middle of a picture in its shape, enlarged 2.5 times."""
    w, h = picture.size
    zoom = min(w, width) / w / 2.5
    box = (w / 2 * (1 - zoom), h / 2 * (1 - zoom), w / 2 * (1 + zoom), h / 2 * (1 + zoom))
    height = max(1, round(h * width / w))
    return picture.resize((width, height), Image.Resampling.LANCZOS, box)


def thumbnail(picture: Image.Image) -> Image.Image:
    picture = picture.copy()
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return picture


def packed(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file of a format of Pillow's."""
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def compare(
    restored: Restored, before: Image.Image, reference: Image.Image | None
) -> tuple[bytes, bytes]:
    """(The pictures side by side as PNG, before and after in one as JPEG). Prints how good it is."""
    after = restored.image
    print(f"Done in {restored.seconds:.1f} s ({restored.where}), {after.width}x{after.height}.")
    before = before.resize(after.size, Image.Resampling.BICUBIC)
    panels = [("Before", before), ("After", after)]
    if reference is not None:
        clean = reference.resize(after.size, Image.Resampling.BICUBIC)
        print("Against the clean original (PSNR over RGB, SSIM of the luma):")
        for index, (label, picture) in enumerate(panels):
            figures = rated(picture, clean)
            panels[index] = (f"{label}: {figures}", picture)
            print(f"  {label.lower():<7} {figures}")
        panels.append(("Reference", clean))
    split = halves(thumbnail(before), thumbnail(after))
    return packed(side_by_side(panels), "PNG"), packed(split, "JPEG", quality=85)


# -- files -----------------------------------------------------------------------------------------


def result_names(photo: Path) -> list[str]:
    """What a photo's results are called."""
    stem = os.fsencode(photo.stem)
    if len(stem) > LONGEST_STEM:
        end = LONGEST_STEM
        while stem[end] & 0xC0 == 0x80:  # in the middle of a letter of UTF-8
            end -= 1
        stem = stem[:end] + b"~" + hashlib.sha256(stem).hexdigest()[:8].encode()
    return [f"{os.fsdecode(stem)}_{what}" for what in RESULTS]


def refuse_others(
    output: Output, names: Sequence[str], digest: str, inputs: Sequence[Path], again: bool
) -> None:
    """UsageError where a result would take the place of anything but the demo's own.

    digest: of the photo, the first of the inputs, which are the files that are read.
    """
    for name in names:
        target = output.folder / name
        for each in inputs:
            if target.exists() and os.path.samefile(target, each):
                raise UsageError(f"{target} is {each}, which is read: take another --output.")
        if problem := output.problem(name, inputs[0], digest, again):
            raise UsageError(f"{problem}: move it away, or take another --output.")


def run(options: argparse.Namespace, output: Output) -> int:
    """Restores the photo into a folder that is held, and tells what came of it.

    Raises UsageError, OSError, HostError, PromptError, RuntimeError and ValueError; their messages
    are sentences.
    """
    path = options.image or PHOTO
    reference = options.reference or (REFERENCE if options.image is None else None)
    picture = read_picture(path, one_frame=True)
    clean = read_picture(reference, one_frame=True).pixels if reference else None
    before = picture.pixels
    assert before
    names, digest = result_names(path), sha256(path)
    refuse_others(output, names, digest, [path, *filter(None, [reference])], options.again)
    print(f"Restoring {path} ({before.width}x{before.height})", flush=True)
    if options.without_comfyui:
        restored = restore_without_host(before, options.fidelity)
    else:
        restored = restore_photo(picture, options.fidelity, cpu=not options.gpu)
    saved = io.BytesIO()
    _, lost = save_picture(restored.data, picture, saved, "png", 95)
    files = [saved.getvalue(), *compare(restored, before, clean)]
    notes = [*picture.notes, *filter(None, [lost])]
    record = {
        "input": str(path),
        "input_sha256": digest,
        "workflow": WORKFLOW.name,
        "workflow_sha256": sha256(WORKFLOW),
        "settings": {"made_by": "demo", "fidelity": options.fidelity},
        "outputs": [
            {"file": name, "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in zip(names, files, strict=True)
        ],
        "seconds": round(restored.seconds, 3),
        "notes": notes,
        "status": "done",
    }
    output.commit(record, files, path, options.again)
    for note in notes:
        print(f"  Note: {note}")
    for name in names:
        print(f"  {output.folder / name}")
    return 0


def main() -> int:
    """Parses the command line and runs the demo. 0: done; 1: it failed; 2: it was refused."""
    parser = argparse.ArgumentParser(prog="demo.sh", description="Restores one photo.")
    parser.add_argument("image", nargs="?", type=Path, help="your photo (default: a bundled one)")
    parser.add_argument("--reference", type=Path, help="its clean original, to measure against")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "demo")
    parser.add_argument(
        "--fidelity",
        type=float,
        default=0.5,
        help="above 0.5 more of the photo as it was, 1 is the photo alone (docs/fidelity.md)",
    )
    parser.add_argument("--gpu", action="store_true", help="let ComfyUI choose its device")
    parser.add_argument("--without-comfyui", action="store_true", help="call the functions alone")
    parser.add_argument(
        "--again",
        action="store_true",
        help="replace results that were changed since they were made",
    )
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names need not be UTF-8
    try:
        with claim(options.output) as output:
            return run(options, output)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except (HostError, PromptError, OSError, RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
