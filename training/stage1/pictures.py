"""Makes the pictures that the light models learn from.

python training/stage1/pictures.py FOLDER --pictures 600 --seed 1

Those that are there already stay, so it can be stopped and called again.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import importlib
import os
import runpy
from functools import partial
from multiprocessing import Pool
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIDE = 320
SEEDS = 10**6
"""Pictures of one seed have the numbers from so many times it on."""


def make(folder: Path, number: int) -> None:
    """One picture as NUMBER.png, unless it is there."""
    file = folder / f"{number}.png"
    if file.exists():
        return
    runpy.run_path(str(ROOT / "tools" / "package.py"))["register_pack"]()
    generate = importlib.import_module("restoration.training.stage1.generate").generate
    pictures = importlib.import_module("PIL.Image")
    half = file.with_suffix(".part")
    pictures.fromarray(generate(number, SIDE)).save(half, "PNG")
    half.replace(file)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Makes pictures to train the light models with.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    numbers = range(options.seed * SEEDS, options.seed * SEEDS + options.pictures)
    with Pool(options.workers) as pool:
        made = pool.imap_unordered(partial(make, options.folder), numbers)
        for count, _ in enumerate(made, 1):
            if count % 50 == 0 or count == len(numbers):
                print(f"{count} of {len(numbers)} pictures", flush=True)


if __name__ == "__main__":
    main()
