"""How results are saved and what their files are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from .pictures import SUFFIXES
from .workflow import Job

KINDS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Pillow's name of a photo's format -> how its result is saved to be of the same."""


@dataclass(frozen=True)
class Saving:
    """In which format."""

    kind: str
    """png, jpg, webp, or `same`: as the photo, png where that is none of these."""
    quality: int

    def kind_for(self, source: Path) -> str:
        """The format of a photo's result, of `SUFFIXES`."""
        if self.kind != "same":
            return self.kind
        return KINDS.get(Image.registered_extensions().get(source.suffix.lower(), ""), "png")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides about the file, to be part of a run's identity."""
        lossy = {} if self.kind == "png" else {"quality": self.quality}
        return {"save_as": self.kind, **lossy}


@dataclass(frozen=True)
class Order:
    """What is done to every picture."""

    job: Job
    saving: Saving
    workflow: str
    """Its file's name."""
    timeout: float
    """Seconds that a picture may take."""


@dataclass(frozen=True)
class Task:
    """One picture to restore."""

    path: Path
    name: Path
    """The name of its result below the output folder, without the extension."""
    base: Path
    """The same for results that are numbered."""
    sha256: str
    """The picture's digest when the run was planned."""
    order: Order

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two runs the same."""
        return self.order.job.key(self.sha256)

    def file(self, number: int = 1, count: int = 1) -> str:
        """Name of a result in the output folder, with `/`: the number-th of count."""
        suffix = SUFFIXES[self.order.saving.kind_for(self.path)]
        name = self.name if count == 1 else self.base.with_name(f"{self.base.name}_{number}")
        return name.with_name(name.name + suffix).as_posix()

    def identity(self) -> dict[str, Any]:
        """How its record begins."""
        job = self.order.job
        return {
            "input": str(self.path),
            "input_sha256": self.sha256,
            "workflow": self.order.workflow,
            "workflow_sha256": job.workflow_sha256,
            "settings": job.settings,
            "seed": job.seed,
        }
