"""The folder runner on a real ComfyUI: one that runs, and one that it starts by itself."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.ExifTags import Base

from restoration.tests.server.conftest import png
from restoration.tools.comfyui.find import Host
from restoration.tools.comfyui.process import ComfyServer
from restoration.tools.commands import main

pytestmark = pytest.mark.server

ROOT = Path(__file__).parent.parent.parent
WORKFLOW = ROOT / "workflows" / "api" / "quick_restore.json"
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


def test_what_the_server_refuses_is_said_once(
    server: ComfyServer, photos: Path, tmp_path: Path
) -> None:
    words = ["run", str(WORKFLOW), str(photos / "plain.png"), "-o", str(tmp_path / "out")]
    bad = ["--set", "DegradationRemover.tile_size=-5", "--server", server.url]
    assert main([*words, *bad]) == 2
    error = records(tmp_path / "out")["plain.png"]["error"]
    assert error.startswith("ComfyUI refused the workflow: DegradationRemover (node ")


def test_gray_in_16_bits_and_transparency_come_back(server: ComfyServer, tmp_path: Path) -> None:
    """Load Image sees the one white and keeps the other apart."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    ramp = np.linspace(0, 65535, 48 * 40).astype(np.uint16).reshape(48, 40)
    Image.fromarray(ramp).save(folder / "deep.png")
    with Image.open(io.BytesIO(png(37, 29))) as image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(folder / "Größe – 東京.png")
    words = ["run", str(WORKFLOW), str(folder), "-o", str(out), "--server", server.url]
    assert main(words) == 0
    gray = np.asarray(Image.open(out / "deep.png").convert("L"), float)
    assert np.abs(gray - ramp / 257).mean() < 6
    assert Image.open(out / "Größe – 東京.png").getchannel("A").getextrema()[0] < 10


@pytest.mark.slow  # tests/tools/folder/test_kills.py has it with a ComfyUI that only pretends
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
def test_killed_outright_it_leaves_no_comfyui_behind(
    host: Host, photos: Path, tmp_path: Path
) -> None:
    """Else that would keep its memory, and the next run would lack it."""
    out, mark = tmp_path / "out", f"--preview-size={os.getpid()}"
    words = [str(ROOT / "tools"), "run", str(WORKFLOW), str(photos), "-o", str(out), "--cpu"]
    process = subprocess.Popen(
        [sys.executable, *words, "--comfyui", str(host.path), f"--comfyui-argument={mark}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: (out / "manifest.jsonl").exists(), 300)
        assert servers(mark)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not servers(mark), 30)
    done = len(records(out))
    assert main([*words[1:], "--comfyui", str(host.path)]) == 1  # the broken one
    states = [record["status"] for record in records(out).values()]
    assert sorted(states) == ["done", "done", "failed"] and done < 3


def servers(mark: str) -> list[str]:
    """Processes of ComfyUI that were started with this argument."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if "main.py" in line and mark in line]


def wait_for(event: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not event():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_it_starts_a_comfyui_by_itself(host: Host, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", str(WORKFLOW), str(photos / "plain.png"), "-o", str(out)]
    assert main([*words, "--comfyui", str(host.path), "--cpu"]) == 0
    assert Image.open(out / "plain.png").size == (37, 29)
    assert records(out)["plain.png"]["comfyui"] == host.version
