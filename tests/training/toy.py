"""A part small enough to train in milliseconds, and runs of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from restoration.common.draws import normal
from restoration.training.config import Config, NoModel, make_config
from restoration.training.loop import make_accelerator, train
from restoration.training.opened import Opened

SIDE = 6


class ToyPart(nn.Module):
    """Learns to take noise off beside a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.frozen = nn.Conv2d(3, 4, 1).requires_grad_(False)
        self.last = nn.Conv2d(4, 3, 3, padding=1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4

    def forward(self, batch, draws):
        guess = self.last(self.frozen(batch["hq"] + draws["noise"]))
        return {"mse": (guess - batch["hq"]).square().mean(), "size": 0.1 * guess.abs().mean()}

    def draw(self, batch, rows):
        return {"noise": normal(rows, "noise", 3, SIDE, SIDE)}

    def trained(self):
        return {"last.weight": self.last.weight, "last.bias": self.last.bias}

    def published_state(self):
        return {"toy.safetensors": {k: v.detach().clone() for k, v in self.trained().items()}}

    def load_published(self, files):
        self.last.load_state_dict(
            {k.removeprefix("last."): v for k, v in files["toy.safetensors"].items()}
        )


class ToyPictures(Dataset):
    def __init__(self, bad: int = -1, interrupt: int = -1) -> None:
        self.bad, self.interrupt = bad, interrupt

    def __getitem__(self, sample: int):
        rng = np.random.default_rng([7, sample])
        hq = torch.from_numpy(rng.random((3, SIDE, SIDE), np.float32))
        if sample == self.bad:
            hq[0, 0, 0] = float("nan")
        if sample == self.interrupt:
            os.kill(os.getpid(), signal.SIGINT)
        return {"names": f"{sample}.png", "hq": hq}


def toy_config(folder: Path, **sections) -> Config:
    table = {
        "run": {"folder": str(folder), "steps": 4, "batch": 4, "seed": 3},
        "data": {"workers": 0},
        "optimizer": {"lr": 1e-2, "clip": 1.0},
        "save": {"every": 2, "export_every": 4},
    }
    for name, values in sections.items():
        table[name] = {**table.get(name, {}), **values}
    return make_config("toy", NoModel, {}, table, "test")


def run_toy(
    config: Config, pictures: Dataset | None = None, resume: str = "", cpu: bool = True
) -> ToyPart:
    """A whole run in this process, of as many as torch's environment says."""
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    GradientState._reset_state()
    part = ToyPart()
    opened = Opened(part, pictures or ToyPictures(), 10, {"method": "toy"}, {"base": "abc"})
    train(config, opened, make_accelerator(config, cpu=cpu), resume)
    return part
