"""What a figure needs beyond what ComfyUI installs: looked for and named, never fetched."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Weights:
    """A published file."""

    address: str
    size: str
    folder: str = ""
    """Where its library looks; empty: in torch's folder of downloaded weights."""

    @property
    def place(self) -> Path:
        folder = Path(self.folder or f"{torch.hub.get_dir()}/checkpoints").expanduser()
        return folder / self.address.rpartition("/")[2]


def need(metric: str, packages: tuple[str, ...], files: tuple[Weights, ...]) -> None:
    """Raises ValueError, naming what is missing and where to get it, unless all is here: the
    libraries would fetch a missing file by themselves."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"`{metric}` needs the package {package}, which ComfyUI does not install: run `pip "
                f"install {package}` in this Python environment, or leave `{metric}` out; PSNR and "
                "SSIM need nothing."
            )
    for file in files:
        if not file.place.is_file():
            raise ValueError(
                f"`{metric}` needs weights that are not at {file.place}. Put {file.address} "
                f"({file.size}) there, or leave `{metric}` out; PSNR and SSIM need nothing."
            )
