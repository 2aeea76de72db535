"""The authors' degradations, replayed step by step from their recorded draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restoration.common.blur import filter2d, usm_sharpened
from restoration.common.degradation import (
    GaussianNoise,
    JpegArithmetic,
    JpegFile,
    PoissonNoise,
    Resize,
    Return,
    Scene,
)
from restoration.common.jpeg import jpeg_round_trip
from restoration.tests.golden.suite import GoldenCase, golden

Row = Callable[[Tensor, int], Tensor]
"""(one picture 1 3 h w, its number in the batch) -> what a step makes of it"""


def eight_bits(pixels: Tensor) -> Tensor:
    return pixels.mul(255).round().clamp(0, 255).div(255)


def recorded_row(value: Tensor, row: int, dimensions: int) -> Tensor:
    """A batch's own row of a recorded tensor; what is one for all as it is."""
    return value[row] if value.ndim > dimensions else value


def scene(size: list[int]) -> Scene:
    return Scene(*size, np.random.default_rng(0), jpeg_round_trip)


def step_of(case: GoldenCase, step: dict[str, Any]) -> Row:
    """One of our steps with a recorded one's numbers."""
    kind, tensors = step["op"], case.tensors

    def drawn(row: int) -> Tensor:
        gray = bool(step.get("gray", [0.0] * (row + 1))[row])
        return recorded_row(tensors[step["gray_draw" if gray else "color_draw"]], row, 3)

    def noise(pixels: Tensor, row: int) -> Tensor:
        strength, gray = step["strength"], bool(step.get("gray", [0.0] * (row + 1))[row])
        strength = strength[row] if isinstance(strength, list) else strength
        made = (GaussianNoise if kind.startswith("gaussian") else PoissonNoise)(strength, gray)
        return made.add(pixels, drawn(row).reshape(1, -1, *pixels.shape[-2:]))

    if kind == "USM sharpening":
        return lambda pixels, row: usm_sharpened(pixels)
    if kind == "filter2D":
        return lambda pixels, row: filter2d(pixels, recorded_row(tensors[step["kernel"]], row, 2))
    if kind == "resize":
        mode = "bilinear" if step["mode"].startswith("OpenCV bilinear") else step["mode"]
        if factor := step.get("factor"):
            return lambda pixels, row: Resize(mode, factor, by_factor=True)(
                pixels, scene(step["to"])
            )
        return lambda pixels, row: Return(mode)(pixels, scene(step["to"]))
    if kind.startswith("jpeg file"):
        made = JpegFile(step["written_quality"])
        return lambda pixels, row: made(pixels, scene([1, 1]))
    if kind.startswith("jpeg"):
        return lambda pixels, row: JpegArithmetic(step["quality"][row])(pixels, scene([1, 1]))
    if kind.endswith("noise"):
        return noise
    assert kind.startswith("paired crop, none"), kind
    return lambda pixels, row: pixels


@golden(
    "training",
    "degradation, PASD",
    "degradation, SeeSR",
    "degradation, DiffBIR v2.1",
    "degradation, DiffBIR v1 and v2",
)
def replayed(case: GoldenCase, get) -> None:
    """From the picture through all steps, and every step by itself from the recorded picture
    before it: an 8-bit border inside must not hide a wrong step."""
    config, outputs = case.config, case.data["outputs"]
    image = case.tensors["image"]
    if image.dtype == torch.uint8:
        image = image.movedim(-1, 0)[None].float() / 255
    if config.get("flipped"):
        image = image.flip(-1)
    after = [image]
    for number, step in enumerate(config["steps"]):
        run = step_of(case, step)
        for before in (after[-1], case.tensors.get(f"after_{number - 1:02}", after[-1])):
            rows = [run(each, row) for row, each in enumerate(before.split(1))]
            case.check({f"after_{number:02}": torch.cat(rows)})
        after.append(torch.cat(rows))
        case.leave(*(name for name in step.values() if isinstance(name, str) and name in outputs))
    sharpened = config["steps"][0]["op"] == "USM sharpening"
    target, last = after[1 if sharpened else 0], after[-1]
    if "-1..1" in outputs["gt"]:
        target = target * 2 - 1
    found = {"gt": target, "hint": eight_bits(last)}
    if "quarter" in outputs["lq"]:
        found["lq"] = after[-2]
    else:
        found["lq"] = eight_bits(last) if "1/255" in outputs["lq"] else last
    case.check(found)
