"""The figures there are, each once for the command and for Restoration Metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ...common.dists import load_dists, structure_texture_distance
from ...common.lpips import load_lpips, perceptual_distance
from ...common.metrics import luma_psnr, luma_ssim

Measured = Callable[[Tensor, Tensor, int], Tensor]
"""(result, reference, crop_border) -> one figure for each picture; see `common/metrics.py`."""


@dataclass(frozen=True)
class Measure:
    """One figure."""

    title: str
    higher_is_better: bool
    digits: int
    """Behind the point, as papers print it."""
    load: Callable[[], Measured]
    """ValueError, naming what is missing, where it needs what is not on this machine."""

    def __str__(self) -> str:
        return f"{self.title} {'↑' if self.higher_is_better else '↓'}"


def _lpips() -> Measured:
    network = load_lpips()
    return lambda image, reference, crop: perceptual_distance(image, reference, crop, network)


def _dists() -> Measured:
    network = load_dists()
    return lambda image, reference, crop: structure_texture_distance(
        image, reference, crop, network
    )


MEASURES = {
    "psnr": Measure("PSNR (Y)", True, 2, lambda: luma_psnr),
    "ssim": Measure("SSIM (Y)", True, 4, lambda: luma_ssim),
    "lpips": Measure("LPIPS", False, 4, _lpips),
    "dists": Measure("DISTS", False, 4, _dists),
}
"""In the order of the papers' tables."""
