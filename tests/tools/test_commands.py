"""The command line as a program: it runs alone from anywhere, and ends cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from restoration.tools.commands import main

ROOT = Path(__file__).parent.parent.parent


def test_no_command_shows_them_all(capsys) -> None:
    assert main([]) == 2
    said = capsys.readouterr().out
    assert all(word in said for word in ("inspect", "convert", "list", "run"))


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


def _as_in_a_terminal() -> None:
    """What nohup or a script in the background ignores is inherited, and would never arrive."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupt_at_any_time_shows_no_traceback_and_leaves_nothing(tmp_path, name) -> None:
    """Early, while libraries load, and late, while the file is written."""
    torch.save({"w": torch.zeros(1)}, tmp_path / "v2.pth")
    before = sorted(tmp_path.iterdir())
    for late in (False, True):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, str(ROOT), str(tmp_path / "v2.pth")],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=_as_in_a_terminal,
        )  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "loading\n"
        if late:
            assert process.stdout.readline() == "writing\n"
        else:
            time.sleep(0.3)
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=60)
        assert process.returncode in (130, -getattr(signal, name)) and "Traceback" not in said
        assert sorted(tmp_path.iterdir()) == before
    assert process.returncode == 130 and said.endswith("Interrupted.\n")


SLOW = """
import sys, time
from pathlib import Path
root = sys.argv[1]
sys.argv = ["tools", "convert", sys.argv[2]]
sys.path.insert(0, root)
import tools.__main__ as program
program.register_pack()

def slow(weights, path, metadata):
    Path(path).write_bytes(b"half a file")
    print("writing", flush=True)
    time.sleep(60)

import importlib
real = importlib.import_module
def loading(name, *rest):
    module = real(name, *rest)
    if name.endswith("tools.commands"):
        convert = real("restoration.tools.weights.convert")
        convert.save_file = slow
        whole = real("restoration.tools.weights.known").Found("m", "v", "w", "whole", "f", {})
        convert.gather = lambda sources: whole
    return module
program.importlib.import_module = loading
print("loading", flush=True)
sys.exit(program.run())
"""


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    files = " ".join(f"{number}.pth" for number in range(3000))
    command = f"{sys.executable} {ROOT / 'tools'} inspect {files} | head -1"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.stdout == "0.pth\n" and not done.stderr


def test_a_python_without_torch_is_told_which_one_to_use(tmp_path) -> None:
    code = "import sys, runpy; sys.modules['torch'] = None; sys.argv = ['tools', 'list']"
    code += f"; runpy.run_path({str(ROOT / 'tools')!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"This Python ({sys.executable}) has no torch. Use ComfyUI's own")
    assert done.stderr.count("\n") == 1


CHECK = """
import sys
from tools.__main__ import register_pack
register_pack()
import importlib
importlib.import_module("restoration.tools.commands").command_parser()
hosts = {"comfy", "folder_paths", "nodes", "server", "execution"}
assert not hosts & set(sys.modules), hosts & set(sys.modules)
assert importlib.util.find_spec("nodes") is None
"""


def test_comfyui_is_not_needed_and_its_modules_are_not_hidden() -> None:
    done = run("-c", CHECK, cwd=ROOT)
    assert done.returncode == 0, done.stderr
