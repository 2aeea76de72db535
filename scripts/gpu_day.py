# ruff: noqa: T201
"""The first minutes on a CUDA card, part by part, each a process of its own with a limit of time.

Standard library only, until the parts run. A part whose result is there is skipped, and the one at
which an earlier run was stopped goes on where it can: the bench by figure, training by checkpoint.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NEEDED = {
    "safetensors": "safetensors", "einops": "einops", "kornia": "kornia", "spandrel": "spandrel",
    "pytest": "pytest", "scipy": "scipy", "PIL": "pillow", "yaml": "pyyaml", "psutil": "psutil",
    "accelerate": "accelerate", "transformers": "transformers", "torchsde": "torchsde", "aiohttp": "aiohttp", "av": "av",
    "tqdm": "tqdm", "comfy_kitchen": "comfy-kitchen", "comfy_aimdo": "comfy-aimdo",
}  # fmt: skip
"""Module -> its package, of what the host and the parts import; torch and numpy are the machine's."""
PYTEST = "import sys; sys.path.pop(0); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
"""`python -m pytest` would put this repository, whose `nodes` hides ComfyUI's, on the path."""
LEAST_TRAINING = 0.5
"""Minutes; with fewer left nothing is trained."""
CARD_STEPS = 4000
"""Where the rate ends: about what a card does in the minutes that are left of ten."""
CPU = {True: "true", False: "false"}


@dataclass(frozen=True)
class Part:
    """One process."""

    name: str
    command: Sequence[str]
    minutes: float
    """After which it is stopped; its files stay."""
    environ: tuple[tuple[str, str], ...] = ()


def parts(options: argparse.Namespace) -> Iterator[Part]:
    """In their order; training gets what is left, so it is not among them."""
    dry, out = options.cpu_dry_run, options.folder
    python = [sys.executable]
    host = str(options.host)
    check = [*python, str(ROOT / "tools"), "check", "--no-workflows", "--comfyui", host]
    yield Part("check", [*check, *["--cpu"] * dry, "-o", str(out / "check")], 1.5)
    bench = [*python, str(ROOT / "bench" / "gpu.py"), "--out", str(out), "--host", host]
    yield Part("bench", [*bench, *(["--dry", "--rounds", "1"] if dry else [])], 5.0)
    asked = ["--collect-only"] if dry else []
    tests = [*python, "-c", PYTEST, "-q", "-m", "host", "-k", "half_precision", *asked]
    tests += ["-p", "no:cacheprovider", f"--junitxml={out / 'tests.xml'}", str(ROOT / "tests/host")]
    on_card = () if dry else (("RESTORATION_TEST_DEVICE", "card"),)
    yield Part("tests", tests, 1.5, (("COMFYUI_PATH", host), *on_card))
    makes = [*python, str(ROOT / "training" / "stage1" / "pictures.py"), str(out / "pictures")]
    yield Part("pictures", [*makes, "--pictures", "2" if dry else "400"], 1.0)


def training(options: argparse.Namespace, minutes: float) -> Part:
    """The light model, from the given weights or the last checkpoint of this folder; stopped when the
    time is over, whatever its last step is: the averaged weights are exported on the way."""
    folder = options.folder / "light_model"
    config = options.folder / "light_model.toml"
    paths = {"pictures": options.folder / "pictures", "start": options.start_from, "run": folder}
    shown = {name: json.dumps(str(path)) for name, path in paths.items()}
    config.write_text(
        f'authors = "light"\n[data]\npictures = [{shown["pictures"]}]\n[model]\nstart_from = '
        f"{shown['start']}\n[run]\nfolder = {shown['run']}\n",
        "utf-8",
    )
    words = [sys.executable, str(ROOT / "training"), "light", "--config", str(config)]
    if any((folder / "checkpoints").glob("[0-9]*")):
        words += ["--resume", "latest"]
    settings = {"optimizer.lr": 5e-4, "run.batch": 32, "optimizer.cosine": CARD_STEPS}
    settings |= {"save.export_every": 200, "run.steps": CARD_STEPS}
    settings |= {"data.workers": max(1, (os.cpu_count() or 2) - 1)}
    if options.cpu_dry_run:
        settings = {"run.batch": 1, "run.steps": 2, "data.size": 64, "data.workers": 0}
    for name, value in settings.items():
        words += ["--set", f"{name}={value}"]
    environ = (
        ("COMFYUI_PATH", str(options.host)),
        ("ACCELERATE_USE_CPU", CPU[options.cpu_dry_run]),
    )
    return Part("training", words, minutes, environ)


def install(options: argparse.Namespace) -> Path | None:
    """Puts what this Python lacks and the wheels have into the folder; that folder, or None."""
    target = options.folder / "packages"
    lacking = [
        package for name, package in NEEDED.items() if importlib.util.find_spec(name) is None
    ]
    if not lacking or target.exists():
        return target if target.exists() else None
    there = [p for p in lacking if any(options.wheels.glob(f"{p.replace('-', '_')}-*.whl"))]
    print(f"Not installed here: {', '.join(lacking)}; wheels are there for: {', '.join(there)}.")
    if not there:
        return None
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
    part = target.with_suffix(".part")  # an interrupted installation is begun anew
    shutil.rmtree(part, ignore_errors=True)
    pip += ["--find-links", str(options.wheels), "--target", str(part), *there]
    subprocess.run(pip, check=True)
    return part.replace(target)


def run(part: Part, options: argparse.Namespace, packages: Path | None) -> dict[str, Any]:
    """How a part ended. Its words are in NAME.log; one that takes too long is stopped gently."""
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", **dict(part.environ)}
    if packages is not None:
        environ["PYTHONPATH"] = str(packages)
    started = time.monotonic()
    with (options.folder / f"{part.name}.log").open("ab") as log:
        process = subprocess.Popen(
            part.command, cwd=options.folder, env=environ, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait(60 * part.minutes)
            stopped = False
        except subprocess.TimeoutExpired:
            stopped = True
            code = stop(process)
        except KeyboardInterrupt:
            stop(process)
            raise
    return {"exit code": code, "seconds": time.monotonic() - started, "stopped": stopped}


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ends a process, which may write what it has first."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Results:
    """results.json of the folder, written after every part."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "results.json"
        self.parts: dict[str, Any] = {}
        if self.path.exists():
            self.parts = json.loads(self.path.read_text("utf-8"))

    def done(self, name: str) -> bool:
        """Whether a part ended by itself, well or not; one that was stopped goes on."""
        return name in self.parts and not self.parts[name]["stopped"]

    def put(self, name: str, ended: dict[str, Any]) -> None:
        self.parts[name] = ended
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.parts, indent=2) + "\n", "utf-8")
        part.replace(self.path)


def report(folder: Path, results: Results) -> str:
    """All results as Markdown; says of what is missing that it is."""
    lines = ["# A day on the card", "", "| part | seconds | ended |", "| --- | ---: | --- |"]
    for name, ended in results.parts.items():
        how = "stopped for time" if ended["stopped"] else f"exit code {ended['exit code']}"
        lines.append(f"| {name} | {ended['seconds']:.0f} | {how} |")
    lines += ["", "## Bench", "", "| what | figures |", "| --- | --- |"]
    bench = folder / "bench.json"
    figures = json.loads(bench.read_text("utf-8")) if bench.exists() else {}
    for key, found in figures.items():
        if found:
            shown = ", ".join(f"{name} {figure(value)}" for name, value in found.items())
            lines.append(f"| {key} | {shown} |".replace("\n", " "))
    for name in ("tests.log", "training.log"):
        if (folder / name).exists():
            said = (folder / name).read_text("utf-8", errors="replace").splitlines()[-12:]
            lines += ["", f"## The end of {name}", "", "```", *said, "```"]
    if (folder / "check.md").exists():
        lines += ["", (folder / "check.md").read_text("utf-8").replace("# ", "## ", 1)]
    return "\n".join(lines) + "\n"


def figure(value: object) -> str:
    """A number in four digits, whatever it is."""
    if isinstance(value, dict):
        return "; ".join(f"{name} {figure(each)}" for name, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> int:
    """Runs what is not done yet; 1 where a part failed."""
    parser = argparse.ArgumentParser(description="Checks, benches and trains on a CUDA card.")
    parser.add_argument("folder", type=Path, help="for results; the same one again goes on")
    parser.add_argument("--minutes", type=float, default=10, help="in all")
    parser.add_argument("--host", type=Path, default=ROOT.parent / "ComfyUI", help="a checkout")
    parser.add_argument("--wheels", type=Path, default=ROOT.parent / "wheels")
    weights = ROOT / "stage1" / "weights.safetensors"
    parser.add_argument("--start-from", type=Path, default=weights, help="the model to train on")
    parser.add_argument("--cpu-dry-run", action="store_true", help="tiny, to see that it runs")
    options = parser.parse_args()
    for name in ("folder", "host", "wheels", "start_from"):
        setattr(options, name, getattr(options, name).resolve())
    if not (options.host / "main.py").is_file():
        parser.error(f"{options.host} holds no ComfyUI: put a checkout there or name one, --host.")
    started = time.monotonic()
    options.folder.mkdir(parents=True, exist_ok=True)
    results, packages = Results(options.folder), install(options)

    def minutes_left() -> float:
        return options.minutes - (time.monotonic() - started) / 60

    for part in parts(options):
        if results.done(part.name):
            print(f"{part.name}: done before")
        elif minutes_left() > 0:
            print(f"{part.name} ...", flush=True)
            limited = Part(part.name, part.command, min(part.minutes, minutes_left()), part.environ)
            results.put(part.name, run(limited, options, packages))
    wanted = minutes_left() - 0.5  # to save and to report
    if not results.done("training") and wanted >= LEAST_TRAINING:
        print(f"training for {wanted:.1f} minutes ...", flush=True)
        results.put("training", run(training(options, wanted), options, packages))
    (options.folder / "results.md").write_text(report(options.folder, results), "utf-8")
    print(f"{options.folder / 'results.md'}")
    failed = [
        n for n, ended in results.parts.items() if ended["exit code"] and not ended["stopped"]
    ]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
