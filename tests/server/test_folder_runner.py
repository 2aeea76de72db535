"""The folder runner on a real ComfyUI: one that runs, and one that it starts by itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.ExifTags import Base

from restoration.scripts.comfy_host import ComfyServer, Host
from restoration.tests.server.conftest import png
from restoration.tools.commands import main

pytestmark = pytest.mark.server

WORKFLOW = Path(__file__).parent.parent.parent / "workflows" / "api" / "quick_restore.json"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A photo that lies on its side with EXIF and ICC, one without, and one that is none."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "plain.png").write_bytes(png(37, 29))
    exif = Image.Exif()
    exif[Base.Orientation], exif[Base.Make] = 6, "Maker"
    with Image.open(folder / "plain.png") as image:
        image.save(folder / "turned.jpg", exif=exif, icc_profile=SRGB)
    (folder / "broken.png").write_text("no picture")
    return folder


def records(folder: Path) -> dict[str, dict]:
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    return {Path(record["input"]).name: record for record in map(json.loads, lines)}


def test_a_folder_goes_through_a_running_server(
    server: ComfyServer, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["run", str(WORKFLOW), str(photos), "-o", str(out), "--server", server.url]
    assert main(words) == 1
    made = records(out)
    states = {name: record["status"] for name, record in made.items()}
    assert states == {"plain.png": "done", "turned.jpg": "done", "broken.png": "failed"}
    assert made["plain.png"]["comfyui"] == server.host.version
    assert Image.open(out / "plain.png").size == (37, 29)
    turned = Image.open(out / "turned.png")
    assert turned.size == (29, 37) and turned.info["icc_profile"] == SRGB
    assert turned.getexif()[Base.Make] == "Maker" and Base.Orientation not in turned.getexif()
    assert "prompt" in turned.text  # type: ignore[attr-defined]
    # The result is the photo the right way up: turned otherwise it would be far from it.
    assert made["turned.jpg"]["metrics"]["lr_psnr"] > 25

    # Again: nothing to do. Anew: the server answers from its memory, and the result is the same.
    (photos / "broken.png").unlink()
    before = np.asarray(Image.open(out / "plain.png"))
    assert main(words) == 0
    assert "0 done, 2 skipped, 0 failed" in capsys.readouterr().out
    assert main([*words, "--again"]) == 0
    assert np.array_equal(before, np.asarray(Image.open(out / "plain.png")))

    # A setting changes the result: without strength the photo comes back as it went.
    aside = tmp_path / "aside"
    changed = ["run", str(WORKFLOW), str(photos / "plain.png"), "--server", server.url]
    setting = ["-o", str(aside), "--set", "DegradationRemover.strength=0"]
    color = ["--set", "RestorationFinish.color_correction_method=none"]
    assert main([*changed, *setting, *color]) == 0
    unchanged, source = (Image.open(f / "plain.png").convert("RGB") for f in (aside, photos))
    assert np.array_equal(np.asarray(unchanged), np.asarray(source))


def test_what_the_server_refuses_is_an_error_of_the_picture(
    server: ComfyServer, photos: Path, tmp_path: Path
) -> None:
    words = ["run", str(WORKFLOW), str(photos / "plain.png"), "-o", str(tmp_path / "out")]
    bad = ["--set", "DegradationRemover.tile_size=-5", "--server", server.url]
    assert main([*words, *bad]) == 1
    error = records(tmp_path / "out")["plain.png"]["error"]
    assert error.startswith("ComfyUI refused the workflow: DegradationRemover (node 4)")


def test_it_starts_a_comfyui_by_itself(host: Host, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", str(WORKFLOW), str(photos / "plain.png"), "-o", str(out)]
    assert main([*words, "--comfyui", str(host.path), "--cpu"]) == 0
    assert Image.open(out / "plain.png").size == (37, 29)
    assert records(out)["plain.png"]["comfyui"] == host.version
