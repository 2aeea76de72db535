"""What the registry ships: comfy-cli's own checks, and its archive in a clean ComfyUI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from restoration.tests.server.test_server import all_node_ids, quick_restore
from restoration.tools.comfyui.process import ComfyServer

pytestmark = pytest.mark.server

ROOT = Path(__file__).parent.parent.parent
COMFY = shutil.which("comfy", path=str(Path(sys.executable).parent))
LIMIT = 8 * 2**20
"""The most bytes of the archive: people download it with every update."""

requires_tools = pytest.mark.skipif(
    not (COMFY and shutil.which("git") and (ROOT / ".git").exists()),
    reason="comfy-cli or git is missing (bash scripts/test.sh installs comfy-cli)",
)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
    return done.stdout.decode()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own with the files of this one, as comfy-cli writes beside them."""
    folder = tmp_path_factory.mktemp("package") / "checkout"
    for name in git(ROOT, "ls-files", "-co", "--exclude-standard", "-z").split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    return folder


def comfy(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(COMFY), "--skip-prompt", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env=comfy_environment(folder),
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    return text


def comfy_environment(folder: Path) -> dict[str, str]:
    """Its settings go to a folder of the test, not to the user's."""
    home = str(folder.parent)
    return {**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "DO_NOT_TRACK": "1"}


@requires_tools
def test_comfy_cli_finds_nothing_to_object_to(checkout: Path) -> None:
    text = comfy(checkout, "node", "validate")
    assert "passed" in text and "warning" not in text.lower(), text


@requires_tools
def test_the_archive_loads_all_nodes_in_a_clean_host(checkout: Path, host, tmp_path: Path) -> None:
    comfy(checkout, "node", "pack")
    (archive,) = checkout.glob("*.zip")
    assert archive.stat().st_size < LIMIT
    pack = tmp_path / "pack"
    with zipfile.ZipFile(archive) as packed:
        assert not [name for name in packed.namelist() if name.startswith(("tests/", ".ci/"))]
        packed.extractall(pack)
    for needed in ("LICENSE", "NOTICE", "README.md", "stage1/weights.safetensors"):
        assert (pack / needed).is_file(), needed
    with ComfyServer(host, pack_root=pack) as server:
        assert set(server.pack_nodes()) == all_node_ids()
        assert "IMPORT FAILED" not in server.log()
        templates = server.get_json("/workflow_templates")[server.folder_name]
        assert set(templates) == {path.stem for path in (ROOT / "workflows").glob("*.json")}
        photo = server.upload((ROOT / "scripts" / "photo" / "degraded.jpg").read_bytes(), "a.jpg")
        assert server.run(quick_restore(photo), timeout=300).images("output")
