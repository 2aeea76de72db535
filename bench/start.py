"""What loading the pack adds to ComfyUI's start: processor time of both, in fresh processes.

Usage: bash scripts/bench.sh start [COMFYUI] [--rounds 5]
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from _measuring import ROOT, with_range

runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()

from restoration.tools.comfyui.find import find_host  # noqa: E402

START = """
import asyncio, sys, time
sys.path.insert(0, sys.argv[1])
import comfy.options
from comfy.cli_args import args
args.cpu, args.base_directory = True, sys.argv[2]
started = time.process_time()
import nodes
asyncio.run(nodes.init_builtin_extra_nodes())
host = time.process_time()
assert asyncio.run(nodes.load_custom_node(sys.argv[3]))
print("SECONDS", host - started, time.process_time() - host)
"""


def start(host: Path) -> list[float]:
    """Seconds of ComfyUI with its own nodes, and of the pack after it."""
    with tempfile.TemporaryDirectory() as base:
        words = [sys.executable, "-c", START, str(host), base, str(ROOT)]
        shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    (line,) = (line for line in shown.splitlines() if line.startswith("SECONDS"))
    return [float(word) for word in line.split()[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("comfyui", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found = find_host()
    host = options.comfyui or (found.path if found else None)
    if host is None:
        parser.error("no ComfyUI found: name its folder, or set COMFYUI_PATH")
    start(host)  # writes byte code
    theirs, ours = zip(*(start(host) for _ in range(options.rounds)), strict=True)
    print(f"ComfyUI with its own nodes: {with_range(list(theirs))} s")
    print(f"this pack after it:         {with_range(list(ours))} s")


if __name__ == "__main__":
    main()
