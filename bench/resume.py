"""What it takes to find out that a hundred thousand pictures are done: seconds of the plan alone.

Usage: bash scripts/bench.sh resume [--pictures 100000]
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import hashlib
import json
import runpy
import tempfile
import time
from pathlib import Path

from _measuring import ROOT

runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()

from restoration.tools.folder.output import claim  # noqa: E402
from restoration.tools.folder.plan import plan  # noqa: E402
from restoration.tools.folder.saving import Order, Saving, Task  # noqa: E402
from restoration.tools.folder.workflow import load_workflow, make_job, workflow_file  # noqa: E402

SIZE = 1000
"""Bytes of a picture: reading larger ones is the disk's time."""


def fill(folder: Path, order: Order, count: int) -> dict[Path, Path]:
    """Writes pictures, results and the manifest of a run that is done; picture -> name."""
    pictures = {}
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    with (folder / "out" / "manifest.jsonl").open("w") as manifest:
        for number in range(count):
            path = folder / "in" / f"{number:06}.png"
            data = number.to_bytes(8, "big") * (SIZE // 8)
            path.write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            task = Task(path, Path(path.stem), Path(path.name), digest, order)
            (folder / "out" / task.file()).write_bytes(data)
            output = {"file": task.file(), "sha256": digest, "width": 1, "height": 1}
            record = {
                **task.identity(), "comfyui": "0", "outputs": [output], "seconds": 1.0,
                "metrics": {"input_size": [1, 1], "lr_psnr": 1.0, "texts": {}}, "kept": [],
                "notes": [], "status": "done", "finished": "2026-01-01T00:00:00+00:00",
            }  # fmt: skip
            manifest.write(json.dumps(record) + "\n")
            pictures[path] = Path(path.name)
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000)
    options = parser.parse_args()
    path = workflow_file("quick_restore")
    saving = Saving("png", 95)
    order = Order(make_job(load_workflow(path), saving=saving.settings), saving, path.name, 60.0)
    with tempfile.TemporaryDirectory() as folder:
        pictures = fill(Path(folder), order, options.pictures)
        started = time.perf_counter()
        with claim(Path(folder) / "out") as output:
            read = time.perf_counter()
            made = plan(pictures, output, order, again=False)
            planned = time.perf_counter()
    assert len(made.settled) == options.pictures and not made.tasks
    print(f"{options.pictures} pictures that are done:")
    print(f"  the manifest is read in  {read - started:6.1f} s")
    print(f"  all are looked at in     {planned - read:6.1f} s")


if __name__ == "__main__":
    main()
