"""The figures there are, each once for the command and for Restoration Metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ...common.dists import load_dists, structure_texture_distance
from ...common.lpips import load_lpips, perceptual_distance
from ...common.metrics import cropped, luma_psnr, luma_ssim, papers_luma_ssim
from ...common.no_reference import Alone, figures_alone, load_brisque, load_clipiqa
from .distribution import load_fid

Measured = Callable[[Tensor, Tensor, int], Tensor]
"""(result, reference, crop_border) -> one figure for each picture; see `common/metrics.py`."""


class Gathered(Protocol):
    """A figure that only a whole set has."""

    def add(self, result: Tensor, reference: Tensor) -> None: ...
    def figure(self) -> float: ...


@dataclass(frozen=True)
class Measure:
    """How one figure is called and read. What it is of, its class says, whose `load` raises
    ValueError, naming what is missing, where it needs what is not on this machine."""

    title: str
    higher_is_better: bool
    digits: int
    """Behind the point, as papers print it."""

    def __str__(self) -> str:
        return f"{self.title} {'↑' if self.higher_is_better else '↓'}"


@dataclass(frozen=True)
class OfPair(Measure):
    """Of a result and its original."""

    load: Callable[[], Measured]


@dataclass(frozen=True)
class OfPicture(Measure):
    """Of a result alone."""

    load: Callable[[], Alone]


@dataclass(frozen=True)
class OfSet(Measure):
    """Of all results and all originals together."""

    load: Callable[[], Gathered]


def _lpips() -> Measured:
    network = load_lpips()
    return lambda image, reference, crop: perceptual_distance(image, reference, crop, network)


def _dists() -> Measured:
    network = load_dists()
    return lambda image, reference, crop: structure_texture_distance(
        image, reference, crop, network
    )


MEASURES: dict[str, OfPair | OfPicture | OfSet] = {
    "psnr": OfPair("PSNR (Y)", True, 2, lambda: luma_psnr),
    "ssim": OfPair("SSIM (Y)", True, 4, lambda: papers_luma_ssim),
    "ssim_skimage": OfPair("SSIM (Y) of scikit-image", True, 4, lambda: luma_ssim),
    "lpips": OfPair("LPIPS", False, 4, _lpips),
    "dists": OfPair("DISTS", False, 4, _dists),
    "fid": OfSet("FID", False, 2, load_fid),
    "brisque": OfPicture("BRISQUE", False, 2, load_brisque),
    "clipiqa": OfPicture("CLIP-IQA", True, 4, load_clipiqa),
}
"""In the order of the papers' tables."""


class Measuring:
    """The figures that were asked for, over one set; every network is loaded once."""

    def __init__(self, names: list[str]) -> None:
        """names: of MEASURES. Raises ValueError as `load`."""
        self._pairs: dict[str, Measured] = {}
        self._alone: dict[str, Alone] = {}
        self._gathered: dict[str, Gathered] = {}
        self._names = names
        for name in names:
            measure = MEASURES[name]
            if isinstance(measure, OfPair):
                self._pairs[name] = measure.load()
            elif isinstance(measure, OfPicture):
                self._alone[name] = measure.load()
            else:
                self._gathered[name] = measure.load()

    def add(self, result: Tensor, reference: Tensor | None, crop_border: int) -> dict[str, float]:
        """The figures of one picture, in the order of the names; what only the set has is gathered.

        result, reference: 1 3 H W in 0..1, of one size; reference None: only where no figure needs
        it. crop_border: pixels left out at every side. Raises ValueError.
        """
        found: dict[str, float] = {}
        for name, alone in self._alone.items():
            found[name] = figures_alone(alone, result, crop_border).item()
        if reference is not None:
            for name, measured in self._pairs.items():
                found[name] = measured(result, reference, crop_border).item()
            for gathered in self._gathered.values():
                gathered.add(cropped(result, crop_border), cropped(reference, crop_border))
        return {name: found[name] for name in self._names if name in found}

    def whole(self) -> dict[str, float]:
        """The figures that only the set has. Raises ValueError."""
        return {name: gathered.figure() for name, gathered in self._gathered.items()}
