"""The command `proof`."""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..base import open_comfyui
from .curves import curves
from .lessons import PARTS, Lesson, lessons


def add_command(commands: Any) -> None:
    """`proof`."""
    about = "trains a tiny form of every part on generated pictures and prints what it gained"
    parser = commands.add_parser("proof", help=about, description=about)
    parser.add_argument("folder", type=Path, help="a new folder for the runs")
    parser.add_argument("--base-steps", type=int, default=Lesson.base_steps)
    parser.add_argument("--steps", type=int, default=Lesson.steps, help="of every part")
    parser.add_argument("--pictures", type=int, default=Lesson.pictures)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    logging.getLogger().setLevel(logging.WARNING)
    open_comfyui(torch.device("cpu"))
    lesson = replace(
        Lesson(options.folder),
        base_steps=options.base_steps,
        steps=options.steps,
        pictures=options.pictures,
        parts=tuple(options.parts),
    )
    began = time.process_time()
    print("| part | | before | after |\n| --- | --- | --- | --- |")
    for row in lessons(lesson):
        print(row, flush=True)
    (options.folder / "curves.svg").write_text(curves(options.folder), "utf-8")
    print(f"\n{time.process_time() - began:.0f} s of processor time", flush=True)
    return 0
