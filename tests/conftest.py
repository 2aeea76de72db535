"""Registers the repository as the package `restoration` and gives tests a ComfyUI to run in."""

from __future__ import annotations

import gc
import os
import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent


runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()

from restoration.tests.golden.suite import GoldenReport, collect_cases  # noqa: E402
from restoration.tests.mechanisms import MARK, on_both_hosts  # noqa: E402
from restoration.tools.comfyui.find import find_host  # noqa: E402
from restoration.tools.comfyui.inprocess import import_comfyui  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        type=Path,
        default=None,
        help="another folder of golden cases in the format of tests/golden/README.md",
    )
    parser.addoption("--slow", action="store_true", help="run also what is marked slow")


def pytest_configure(config: pytest.Config) -> None:
    report = GoldenReport()
    config.stash[GoldenReport.KEY] = report
    config.pluginmanager.register(report, "golden-report")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_case" in metafunc.fixturenames:
        folder = metafunc.config.getoption("--golden-dir")
        metafunc.parametrize("golden_case", collect_cases(folder))


def host_path() -> Path | None:
    """The ComfyUI of this process: COMFYUI_PATH, else the oldest one found."""
    host = find_host()
    return host.path if host else None


NO_HOST = (
    "no ComfyUI found: set COMFYUI_PATH to a checkout, or clone one to ~/comfy/ComfyUI; "
    "then this test runs"
)

SLOW = "slow, and not run on every change: `bash scripts/test.sh --all` or `pytest --slow` runs it"


@pytest.hookimpl(tryfirst=True)  # before -m selects by the marks that are set here
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    without_host = host_path() is None
    for item in items:
        if on_both_hosts(item.nodeid):
            item.add_marker(MARK)
        if without_host and any(map(item.get_closest_marker, ("host", "server", "browser"))):
            item.add_marker(pytest.mark.skip(reason=NO_HOST))
        elif item.get_closest_marker("slow") and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason=SLOW))


def pytest_collection_finish() -> None:
    """ComfyUI collects garbage after every run. What stays to the end, some million objects of torch and
    of all tests, is not searched for it each time, which took longer than most tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The real ComfyUI, imported into this process on the CPU with a temporary base directory."""
    path = host_path()
    if path is None:
        pytest.skip(NO_HOST)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    on_card = os.environ.get("RESTORATION_TEST_DEVICE") == "card"  # for scripts/gpu_day.sh
    import_comfyui(path, tmp_path_factory.mktemp("comfy"), cpu=not on_card)
    import comfy.model_management
    import comfyui_version
    import folder_paths

    import nodes

    gc.freeze()  # the modules of ComfyUI, too
    return SimpleNamespace(
        path=path,
        version=comfyui_version.__version__,
        nodes=nodes,
        folder_paths=folder_paths,
        model_management=comfy.model_management,
    )
