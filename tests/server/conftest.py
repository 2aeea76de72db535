"""One headless ComfyUI for the whole tier: the host of this process, with the pack linked in."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from restoration.tools.comfyui.find import Host, find_host, find_newer_host
from restoration.tools.comfyui.process import ComfyServer

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def host() -> Host:
    found = find_host() or find_newer_host()
    if found is None:
        pytest.skip("no ComfyUI found: set COMFYUI_PATH to a checkout")
    return found


@pytest.fixture(scope="session")
def server(host: Host) -> Iterator[ComfyServer]:
    with ComfyServer(host) as running:
        yield running


def png(width: int, height: int) -> bytes:
    """A small picture with a gradient in each direction."""
    picture = Image.merge(
        "RGB",
        [
            Image.linear_gradient("L").resize((width, height)),
            Image.linear_gradient("L").rotate(90).resize((width, height)),
            Image.radial_gradient("L").resize((width, height)),
        ],
    )
    packed = io.BytesIO()
    picture.save(packed, "PNG")
    return packed.getvalue()


@pytest.fixture
def tiny_photo(server: ComfyServer) -> str:
    """The name of an uploaded picture of 37 x 29 pixels."""
    return server.upload(png(37, 29), "tiny photo.png")
