"""The folder runner against a server that only pretends: damaged pictures, workflows, manifests."""

from __future__ import annotations

import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image, features

from restoration.tests.fuzz.campaign import (
    Campaign,
    Fault,
    checked_sentence,
    run_command,
    snapshot,
    unchanged,
)
from restoration.tests.fuzz.mutations import HOSTILE_TEXTS, mutated, mutated_json
from restoration.tests.tools.folder.fake_comfy import WORKFLOW, FakeComfy

MANIFEST = "manifest.jsonl"
FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "webp": "WEBP",
    "tif": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
    "tga": "TGA",
    "ppm": "PPM",
    "jp2": "JPEG2000",
    "avif": "AVIF",
}
MODES = ("RGB", "RGBA", "L", "LA", "P", "I;16", "F", "CMYK", "1")


def photo(size: tuple[int, int] = (24, 16), mode: str = "RGB") -> Image.Image:
    gray = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", (gray, gray.transpose(Image.Transpose.FLIP_LEFT_RIGHT), gray))
    if mode in ("I;16", "F"):
        return gray.convert("I" if mode == "I;16" else "F").convert(mode)
    return image.convert(mode)


def encoded(rng: random.Random, ending: str) -> bytes:
    """A valid picture of that format, as far as it takes mode, EXIF and profile."""
    exif = Image.Exif()
    exif[0x0112] = rng.randint(0, 9)
    exif[0x010E] = rng.choice(HOSTILE_TEXTS).encode("utf-8", "replace")
    exif[0x011A] = 72.0
    extras: list[dict[str, Any]] = [
        {"exif": exif},
        {"exif": exif.tobytes()[: rng.randint(6, 40)]},
        {"icc_profile": rng.randbytes(200)},
        {},
    ]
    rng.shuffle(extras)
    mode = rng.choice(MODES)
    for options, kind in ((extras[0], mode), ({}, mode), ({}, "RGB")):
        out = io.BytesIO()
        try:
            photo(mode=kind).save(out, FORMATS[ending], **options)
        except Exception:  # the format has no such mode or entry
            continue
        return out.getvalue()
    raise AssertionError(f"Pillow writes no {ending}")


class FolderRuns(Campaign):
    """What its campaigns share: the server, two good photos, and the command."""

    def __init__(self) -> None:
        self.fake = FakeComfy()
        # A prompt that it cannot run ends the connection, without its own traceback among the words.
        self.fake._server.handle_error = lambda request, client_address: None
        self.endings = [e for e in FORMATS if e != "avif" or features.check("avif")]
        self.endings = [e for e in self.endings if e != "jp2" or features.check("jpg_2000")]

    def close(self) -> None:
        self.fake.close()

    def photos(self, folder: Path) -> Path:
        photos = folder / "in"
        photos.mkdir()
        for number in (1, 2):
            photo((24, 16 + number)).save(photos / f"good_{number}.png")
        return photos

    def run(self, folder: Path, *arguments: object) -> tuple[int, str]:
        """The command; its originals may not change, and a result is there for every `done`."""
        workflow = folder / "workflow.json"
        if not workflow.exists():
            workflow.write_text(json.dumps(WORKFLOW))
        before = snapshot(folder / "in") | snapshot(workflow.parent / "mine")
        out = folder / "out"
        code, text = run_command(
            "run", workflow, *arguments, "-o", out, "--server", self.fake.url, "--timeout", 20
        )
        checked_sentence(text)
        unchanged(before)
        self.fake.prompts.clear()
        self.fake.requests.clear()
        return code, text

    @staticmethod
    def records(folder: Path) -> list[dict[str, Any]]:
        path = folder / "out" / MANIFEST
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def good_are_done(self, folder: Path, text: str) -> None:
        done = {
            Path(each["input"]).name for each in self.records(folder) if each["status"] == "done"
        }
        if missing := {"good_1.png", "good_2.png"} - done:
            raise Fault(f"{sorted(missing)} not done because of another picture: {text[-400:]}")


class Pictures(FolderRuns):
    """A damaged picture between good ones: restored, or its own failure in the manifest."""

    name: ClassVar[str] = "pictures"

    def case(self, rng: random.Random, folder: Path) -> str:
        photos = self.photos(folder)
        ending, other = rng.choice(self.endings), rng.choice(self.endings)
        data = encoded(rng, ending)
        if rng.random() < 0.8:
            data = mutated(rng, data, encoded(rng, other))
        name = f"bad.{ending if rng.random() < 0.85 else other}"
        (photos / name).write_bytes(data)
        form = rng.choice(("png", "jpg", "webp", "same"))
        code, text = self.run(folder, photos, "--format", form)
        self.good_are_done(folder, text)
        told = [each for each in self.records(folder) if Path(each["input"]).name == name]
        if not told and name not in text:
            raise Fault(f"nothing was said of {name}: {text[-400:]}")
        if told and (told[-1]["status"] == "done") != (code == 0):
            raise Fault(f"{told[-1]['status']} and exit code {code}: {text[-400:]}")
        for each in told[-1].get("outputs", []) if told else []:
            Image.open(folder / "out" / each["file"]).load()
        return text if code else ""


class Workflows(FolderRuns):
    """Damaged workflow files: a sentence before anything is sent, or a run."""

    name: ClassVar[str] = "workflows"

    def case(self, rng: random.Random, folder: Path) -> str:
        photos = self.photos(folder)
        (folder / "workflow.json").write_bytes(mutated_json(rng, WORKFLOW))
        arguments: list[object] = []
        if rng.random() < 0.3:
            text = rng.choice(HOSTILE_TEXTS).replace("\x00", "").encode("utf-8", "replace").decode()
            arguments = [f"--set={rng.choice(('2.strength=', '9.x=', 'seed=', ''))}{text}"]
        code, text = self.run(folder, photos, *arguments)
        return text if code else ""


class Manifests(FolderRuns):
    """A run, a damaged manifest, and the run again: nothing that is not the runner's is replaced."""

    name: ClassVar[str] = "manifests"

    def __init__(self) -> None:
        super().__init__()
        self.finished = Path(tempfile.mkdtemp(prefix="restoration-fuzz-"))
        self.run(self.finished, self.photos(self.finished))

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.finished, ignore_errors=True)

    def case(self, rng: random.Random, folder: Path) -> str:
        shutil.copytree(self.finished, folder, dirs_exist_ok=True)
        out = folder / "out"
        manifest, mine = out / MANIFEST, out / "good_1.png"
        lines = manifest.read_bytes().splitlines()
        # The paths inside are the template's: their lines are to be read, not to be believed.
        change: Callable[[bytes], bytes] = lambda line: mutated_json(rng, json.loads(line))  # noqa: E731
        at = rng.randrange(len(lines))
        match rng.randrange(4):
            case 0:
                data = mutated(rng, manifest.read_bytes())
            case 1:
                data = b"\n".join([*lines, change(lines[at])])
            case _:
                lines[at] = change(lines[at])
                data = b"\n".join(lines) + b"\n"
        manifest.write_bytes(data)
        owned = rng.random() < 0.5
        if owned:  # changed by its owner since
            photo((24, 17)).rotate(180).save(mine)
        before = mine.read_bytes()
        code, text = self.run(folder, folder / "in")
        if owned and mine.read_bytes() != before:
            raise Fault(f"a result that its owner had changed was replaced: {text[-400:]}")
        if code == 0:
            for name in ("good_1.png", "good_2.png"):
                if not any(path.name.startswith(name[:6]) for path in out.iterdir()):
                    raise Fault(f"exit code 0 without a result of {name}")
        return text if code else ""
