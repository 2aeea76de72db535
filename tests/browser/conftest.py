"""One headless ComfyUI with its own front end, and Chromium in front of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from restoration.scripts import comfy_host

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else a gallery of templates covers the graph
    "Comfy.Minimap.Visible": False,
}


@pytest.fixture(scope="session")
def host() -> comfy_host.Host:
    found = comfy_host.find_host() or comfy_host.find_newer_host()
    if found is None:
        pytest.skip("no ComfyUI found: set COMFYUI_PATH to a checkout")
    return found


@pytest.fixture(scope="session")
def server(host: comfy_host.Host) -> Iterator[comfy_host.ComfyServer]:
    frontend = comfy_host.find_frontend(host)
    if frontend is None:
        wanted = host.pinned(comfy_host.FRONTEND_PACKAGE)
        pytest.skip(f"front end {wanted} is not installed: run `bash scripts/test.sh`")
    with comfy_host.ComfyServer(host, frontend=frontend) as running:
        running.post_json("/settings", SETTINGS)
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    chromium = comfy_host.find_chromium()
    if chromium is None:
        pytest.skip("no Chromium found: install it or set CHROMIUM_PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    sandbox = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=str(chromium), args=["--disable-gpu", *sandbox]
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def screenshots(host: comfy_host.Host) -> Path:
    folder = comfy_host.PACK_ROOT / "output" / "screenshots" / host.version
    folder.mkdir(parents=True, exist_ok=True)
    return folder
