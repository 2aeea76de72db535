from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from restoration.common.diffusion import ForwardProcess
from restoration.training import restoration
from restoration.training.config import make_config
from restoration.training.errors import TrainingError
from restoration.training.parts import part_module
from restoration.training.proof.patches import Patches
from restoration.training.restoration import branch_restorer, restored

PATCHES = Patches(kept=2)
WAYS = {name: part_module(name).WAY for name in ("pasd", "diffbir", "seesr")}


class Exact(torch.nn.Module):
    """A part that knows the clean picture."""

    def __init__(self, process: ForwardProcess, hq: Tensor) -> None:
        super().__init__()
        self.process, self.z = process, PATCHES.encoded(hq)
        self.moments, self.weight = PATCHES, torch.nn.Parameter(torch.zeros(1))
        self.texts: list[str] = []

    def seen(self, batch: Any) -> Tensor:
        return batch["lq"]

    def context(self, batch: Any) -> Tensor:
        self.texts += batch["captions"]
        return torch.zeros(1)

    def predict(self, x: Tensor, timesteps: Tensor, context: Tensor, seen: Tensor) -> Tensor:
        signal, share = (
            table[timesteps][:, None, None, None]
            for table in (self.process.signal, self.process.noise)
        )
        noise = (x - signal * self.z) / share
        return self.process.target(self.z, noise, timesteps)


@pytest.mark.parametrize(
    ("method", "prediction", "zero_snr"),
    [*((name, "eps", False) for name in WAYS), ("diffbir", "v", True)],
)
def test_a_part_that_knows_the_noise_gives_the_picture(method, prediction, zero_snr) -> None:
    process = ForwardProcess.scaled_linear(prediction, dtype=torch.float64, zero_snr=zero_snr)
    hq, lq = torch.rand(2, 2, 3, 32, 32)
    batch = {"lq": lq, "captions": ["", ""]}
    found = restored(Exact(process, hq), WAYS[method], batch, PATCHES)
    wanted = PATCHES.decoded(PATCHES.encoded(hq))
    assert (found - wanted).abs().max() < 2e-3 < (lq - wanted).abs().max()


def test_every_seed_and_row_starts_from_noise_of_its_own() -> None:
    class Idle(Exact):
        def predict(self, x: Tensor, *_: Any) -> Tensor:
            return torch.zeros_like(x)

    part = Idle(ForwardProcess.scaled_linear(), torch.zeros(2, 3, 32, 32))
    batch = {"lq": torch.zeros(2, 3, 32, 32), "captions": ["", ""]}
    one, again, other = (
        restored(part, WAYS["diffbir"], batch, PATCHES, steps=2, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(one, again) and not torch.equal(one[0], one[1])
    assert not torch.equal(one, other)


def config_of(folder, **samples):
    table = {
        "data": {"pictures": [str(folder)], "degradation": "realesrgan", "size": 32},
        "samples": {"pictures": str(folder), "count": 2, "steps": 4, **samples},
    }
    table["data"]["text"] = "file"
    return make_config("pasd", part_module("pasd").Model, {}, table, "it")


def test_samples_are_drawn_with_the_texts_that_are_there(tmp_path, pictures) -> None:
    (tmp_path / "in").mkdir()
    for number, text in enumerate(("a house", None)):
        Image.new("RGB", (32, 32), (90, 90, 90)).save(tmp_path / f"in/{number}.png")
        if text:
            (tmp_path / f"in/{number}.txt").write_text(text, "utf-8")
    part = Exact(ForwardProcess.scaled_linear(), torch.full((1, 3, 32, 32), 90 / 255))
    config = config_of(pictures, pictures=str(tmp_path / "in"))
    restore = branch_restorer(config, part, WAYS["pasd"])
    assert restore is not None
    said = restore(tmp_path)
    assert sorted(part.texts) == ["", "a house"] and "PSNR" in said
    with Image.open(tmp_path / "00.png") as sheet:
        assert sheet.size == (3 * 32, 32)
        assert sheet.getpixel((48, 16)) == pytest.approx((90, 90, 90), abs=1)
    assert branch_restorer(config_of(pictures, pictures=""), part, WAYS["pasd"]) is None


@pytest.mark.parametrize("steps", [0, 1001])
def test_steps_that_a_schedule_cannot_take_are_told_before_the_run(pictures, steps) -> None:
    with pytest.raises(TrainingError, match=rf"^samples\.steps = {steps}: "):
        branch_restorer(config_of(pictures, steps=steps), SimpleNamespace(), WAYS["pasd"])


def test_a_velocity_tells_the_same_picture_as_the_noise() -> None:
    x0, noise = torch.randn(2, 1, 4, 4, 4)
    for sigma in (0.1, 3.0, 1e4):
        x, root = x0 + sigma * noise, (1 + sigma**2) ** 0.5
        velocity = noise / root - sigma / root * x0
        found = restoration.clean(x, velocity, sigma, "v")
        assert torch.allclose(found, x0, atol=1e-4 + 1e-7 * sigma**2 / 10)
        if sigma < 1e3:
            found = restoration.clean(x, noise, sigma, "eps")
            assert torch.allclose(found, x0, atol=1e-4)
