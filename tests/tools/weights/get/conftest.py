"""A server of files, a ComfyUI without models, and no waiting."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from restoration.tests.tools.weights import tiny
from restoration.tests.tools.weights.get.file_server import FileServer
from restoration.tools.weights.get import download
from restoration.tools.weights.installed import DEFAULTS


@pytest.fixture(autouse=True)
def _tiny_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.use_tiny_sizes(monkeypatch)
    # In the place of the module, for threads of other tests may be waiting by the real one.
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr(download, "RESERVE", 0)
    for name in ("HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without huggingface_hub."""
    monkeypatch.setattr("restoration.tools.weights.get.fetch.download_from_hub", lambda *_: False)


@pytest.fixture
def server() -> Iterator[FileServer]:
    files = FileServer()
    yield files
    files.close()


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    folder = tmp_path / "ComfyUI"
    for kind in DEFAULTS:
        (folder / "models" / kind).mkdir(parents=True)
    (folder / "main.py").touch()
    return folder


@pytest.fixture
def weights() -> bytes:
    """A file of a control network of DiffBIR."""
    file = io.BytesIO()
    torch.save(tiny.diffbir(), file)
    return file.getvalue()
