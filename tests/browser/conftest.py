"""One headless ComfyUI with its own front end, and Chromium in front of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from restoration.tools.comfyui.find import (
    FRONTEND_PACKAGE,
    PACK_ROOT,
    Host,
    find_chromium,
    find_frontend,
    find_host,
    find_newer_host,
)
from restoration.tools.comfyui.process import ComfyServer

ROOT = PACK_ROOT
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else a gallery of templates covers the graph
    "Comfy.Minimap.Visible": False,
}
STILL = """*, *::before, *::after {
    animation-duration: 1ms !important; animation-delay: 0s !important; transition: none !important;
}"""
"""Nothing moves or fades to where it will be: without a card, drawing that takes most of the time. The
animations last a moment, since the front end takes a mask away when its own has ended."""


@pytest.fixture(scope="session")
def host() -> Host:
    found = find_host() or find_newer_host()
    if found is None:
        pytest.skip("no ComfyUI found: set COMFYUI_PATH to a checkout")
    return found


@pytest.fixture(scope="session")
def server(host: Host) -> Iterator[ComfyServer]:
    frontend = find_frontend(host)
    if frontend is None:
        wanted = host.pinned(FRONTEND_PACKAGE)
        pytest.skip(f"front end {wanted} is not installed: run `bash scripts/test.sh`")
    with ComfyServer(host, frontend=frontend) as running:
        running.post_json("/settings", SETTINGS)
        # Enough for the front end to find the files that the workflows name, not to run them.
        for model in (model for workflow in WORKFLOWS for model in models_of(workflow)):
            path = running.base / "models" / model["directory"] / model["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        yield running


def models_of(workflow: Path) -> list[dict]:
    """What a workflow tells the front end about the weight files it needs."""
    return [
        model
        for node in json.loads(workflow.read_text("utf-8"))["nodes"]
        for model in node.get("properties", {}).get("models", [])
    ]


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium found: install it or set CHROMIUM_PATH")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: run `bash scripts/test.sh`"
    )
    sandbox = [] if hasattr(os, "geteuid") and os.geteuid() else ["--no-sandbox"]
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=str(chromium), args=["--disable-gpu", *sandbox]
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def screenshots(host: Host) -> Path:
    folder = PACK_ROOT / "output" / "screenshots" / host.version
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def open_tab(browser, server: ComfyServer, without: str = "", size: tuple[int, int] = (1920, 1000)):
    """ComfyUI in a tab, loaded as far as its node library; whoever opens it closes it. without:
    addresses that answer with nothing. size: of the window; a large one gets wider bars for good."""
    tab = browser.new_page(viewport={"width": size[0], "height": size[1]})
    tab.set_default_timeout(30_000)
    # The set-up leaves out core's large package of templates; without its list the older front end
    # opens nobody else's. An empty list stands for it.
    tab.route("**/templates/index*.json", lambda route: route.fulfill(json=[]))
    if without:
        tab.route(without, lambda route: route.fulfill(json={}))
    tab.goto(server.url)
    tab.wait_for_function(
        "window.app?.graph && Object.keys(LiteGraph.registered_node_types).length > 100"
    )
    tab.add_style_tag(content=STILL)
    return tab


@pytest.fixture(scope="module")
def page(browser, server) -> Iterator[object]:
    """One tab for a whole file: opening it takes longer than most tests."""
    tab = open_tab(browser, server)
    yield tab
    tab.close()
