"""The command line: its words, its exit codes, and that it runs alone from anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from restoration.tests.tools import tiny
from restoration.tools.commands import main

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.use_tiny_sizes(monkeypatch)


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    torch.save(tiny.diffbir(), tmp_path / "v2.pth")
    return tmp_path / "v2.pth"


def test_inspect_says_all_there_is_to_say(v2, capsys) -> None:
    assert main(["inspect", str(v2)]) == 0
    said = capsys.readouterr().out
    weights = tiny.diffbir()
    count = sum(value.numel() for value in weights.values())
    digest = hashlib.sha256(v2.read_bytes()).hexdigest()
    for line in (
        "what        DiffBIR's control network",
        "method      diffbir, version v2",
        f"weights     {len(weights)}, {count:,} parameters, float32",
        "complete    yes",
        "belongs in  models/controlnet",
        f"sha256      {digest}  v2.pth",
    ):
        assert f"  {line}\n" in said


def test_inspect_reports_what_is_wrong_and_fails(v2, tmp_path, capsys) -> None:
    weights = tiny.diffbir()
    for i in range(4):
        weights[f"strange.{i}"] = torch.zeros(1).half()
    del weights["zero_convs.0.0.bias"]
    torch.save(weights, tmp_path / "bad.pth")
    assert main(["inspect", "--keys", str(tmp_path / "bad.pth"), str(v2)]) == 1
    said = capsys.readouterr().out
    assert (
        "NO: 1 missing (zero_convs.0.0.bias); "
        "4 unexpected (strange.0, strange.1, strange.2, ...)" in said
    )
    assert "    missing     zero_convs.0.0.bias\n" in said and "unexpected  strange.3\n" in said
    assert "float16 (4)" in said
    assert said.count("complete    yes") == 1  # the other file, all the same


def test_inspect_goes_on_after_a_file_that_is_not_ours(v2, tmp_path, capsys) -> None:
    torch.save({"a.lora_up.weight": torch.zeros(1)}, tmp_path / "lora.pt")
    assert main(["inspect", "--json", str(tmp_path / "lora.pt"), str(v2)]) == 1
    lora, ours = json.loads(capsys.readouterr().out)
    assert lora["error"] == "lora.pt is none of this pack's files: this is a LoRA."
    assert ours["complete"] and ours["version"] == "v2" and ours["missing"] == []


def test_inspect_takes_the_folder_of_a_network(tmp_path, capsys) -> None:
    tiny.write_release(tmp_path, tiny.pasd_unet("pasd_light"), tiny.pasd_control())
    assert main(["inspect", str(tmp_path / "unet"), str(tmp_path / "controlnet")]) == 0
    said = capsys.readouterr().out
    assert "PASD's light UNet" in said and "PASD's control network" in said
    assert main(["inspect", str(tmp_path)]) == 1
    assert "name the folder of one network" in capsys.readouterr().out


def test_convert_says_what_it_did(v2, capsys) -> None:
    assert main(["convert", str(v2)]) == 0
    said = capsys.readouterr().out
    target = v2.with_suffix(".safetensors")
    assert said.startswith(f"Wrote {target} (diffbir, version v2, ")
    assert said.endswith(f"sha256 {hashlib.sha256(target.read_bytes()).hexdigest()}\n")
    assert main(["convert", str(v2)]) == 0
    assert capsys.readouterr().out.startswith("Already converted from the same sources: ")
    torch.save(tiny.diffbir(), v2)
    assert main(["convert", str(v2)]) == 1
    assert "--force" in capsys.readouterr().err
    assert main(["convert", "--force", str(v2)]) == 0


def test_the_sha256_beside_a_file_is_what_sha256sum_checks(v2, tmp_path) -> None:
    main(["convert", str(v2)])
    line = (tmp_path / "v2.safetensors.sha256").read_text()
    digest, name = line.rstrip("\n").split("  ")
    assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environ, capture_output=True, text=True
    )


def test_runs_from_the_folder_of_the_pack_and_from_anywhere(tmp_path) -> None:
    (tmp_path / "a.pth").write_bytes(b"")
    for arguments, cwd in ((("-m", "tools"), ROOT), ((str(ROOT / "tools"),), tmp_path)):
        done = run(*arguments, "inspect", str(tmp_path / "a.pth"), cwd=cwd)
        assert done.returncode == 1, done.stderr
        assert "a.pth is empty" in done.stdout


CHECK = """
import sys
from tools.__main__ import register_pack
register_pack()
import importlib
importlib.import_module("restoration.tools.commands").parser()
hosts = {"comfy", "folder_paths", "nodes", "server", "execution"}
assert not hosts & set(sys.modules), hosts & set(sys.modules)
assert importlib.util.find_spec("nodes") is None
"""


def test_comfyui_is_not_needed_and_its_modules_are_not_hidden() -> None:
    done = run("-c", CHECK, cwd=ROOT)
    assert done.returncode == 0, done.stderr
