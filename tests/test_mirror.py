"""Which tests a changed file points to."""

from __future__ import annotations

from pathlib import Path

import pytest

from restoration.tests.mirror import mirrored

ROOT = Path(__file__).parent.parent
HOUSE = {
    "pasd/keys.py": "",
    "pasd/attach.py": "from ..common import images",
    "nodes/pasd.py": "from ..pasd import attach\nfrom ..common import images",
    "common/images.py": "",
    "workflows/a.json": "{}",
    "docs/pasd.md": "",
    "locales/en/main.json": "{}",
    "tests/conftest.py": "from restoration.common import images",
    "tests/test_docs.py": "",
    "tests/pasd/test_keys.py": "",
    "tests/common/test_images.py": "from restoration.common.images import to_bchw",
    "tests/host/test_pasd.py": "def test_it():\n    from restoration.pasd import attach",
    "tests/host/test_pasd_nodes.py": "from restoration.nodes.pasd import PACAControlApply",
    "tests/host/networks.py": "from ...pasd import keys",
    "tests/host/test_seesr.py": "from restoration.tests.host.networks import tiny",
    "tests/golden/test_golden.py": "",
    "tests/golden/runners_pasd.py": "from restoration.pasd import attach",
    "tests/golden/pasd/case.json": "{}",
    "tests/workflows/test_workflows.py": "",
}
EXPECTED = {
    "pasd/keys.py": ["tests/host/test_seesr.py", "tests/pasd/test_keys.py"],
    "pasd/attach.py": [
        "tests/golden/test_golden.py",
        "tests/host/test_pasd.py",
        "tests/host/test_pasd_nodes.py",
    ],
    "common/images.py": ["tests/common/test_images.py", "tests/test_docs.py"],
    "common/gone.py": [],
    "workflows/a.json": ["tests/workflows/test_workflows.py"],
    "docs/pasd.md": ["tests/test_docs.py"],
    "tests/host/test_pasd.py": ["tests/host/test_pasd.py"],
    "tests/host/networks.py": ["tests/host/test_seesr.py"],
    "tests/golden/pasd/case.json": ["tests/golden/test_golden.py"],
    "tests/golden/runners_pasd.py": ["tests/golden/test_golden.py"],
}


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("house")
    for file, source in HOUSE.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(source, "utf-8")
    return root


@pytest.mark.parametrize(("file", "tests"), EXPECTED.items())
def test_a_changed_file_points_to_its_tests(house, file, tests) -> None:
    assert mirrored([file], house)[file] == tests


def test_of_this_house() -> None:
    files = ("common/tiling.py", "pasd/keys.py", "pasd/attach.py", "CHANGELOG.md")
    found = mirrored(files, ROOT)
    assert "tests/common/test_tiling.py" in found["common/tiling.py"]
    assert "tests/pasd/test_keys.py" in found["pasd/keys.py"]
    assert any("test_pasd" in test for test in found["pasd/attach.py"])
    assert found["CHANGELOG.md"] == []
