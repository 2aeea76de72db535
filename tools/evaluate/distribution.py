"""FID: how far all results together are from all originals together."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...common.needed import Weights, need

INCEPTION = Weights(
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
    "91 MB",
)
SIDE = 299
"""Pixels that the network was trained on."""


class InceptionFeatures(nn.Module):
    """The features that FID is defined on (Heusel et al. 2017), of pictures that are resized without
    aliasing, as Parmar et al. 2022 (clean-fid) recommend and the papers' toolbox does."""

    num_features = 2048

    def __init__(self, network: nn.Module) -> None:
        """network: pictures of SIDE x SIDE around 0 -> a list of B num_features 1 1."""
        super().__init__()
        self.network = network.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: B 3 H W in 0..1. Returns B num_features."""
        size = (SIDE, SIDE)
        resized = F.interpolate(255 * pixels, size, mode="bicubic", antialias=True).clamp(0, 255)
        return self.network((resized - 128) / 128)[0].flatten(1)


class FrechetDistance:
    """Gathers the features of a set; the distance of two Gaussians that have their means and
    covariances, through torchmetrics."""

    def __init__(self, features: nn.Module) -> None:
        """features: B 3 H W in 0..1 -> B N, with N as `num_features`."""
        from torchmetrics.image.fid import FrechetInceptionDistance

        self._metric: Any = FrechetInceptionDistance(feature=features, normalize=True)

    @torch.no_grad()
    def add(self, result: Tensor, reference: Tensor) -> None:
        """One pair, 1 3 H W in 0..1."""
        self._metric.update(reference, real=True)
        self._metric.update(result, real=False)

    def figure(self) -> float:
        """Of all pairs. ValueError where there are too few for a covariance."""
        if self._metric.real_features_num_samples < 2:
            raise ValueError(
                "FID compares sets: it needs two pairs or more, and is noise below many."
            )
        return self._metric.compute().item()


def load_fid() -> FrechetDistance:
    """FID on the published Inception weights. Nothing is fetched: raises ValueError, naming what is
    missing and where to put it."""
    need("fid", ("torchmetrics", "piq"), (INCEPTION,))
    from piq.feature_extractors import InceptionV3

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # piq calls torchvision in a way that is to be given up
        network = InceptionV3(resize_input=False, normalize_input=False)
    return FrechetDistance(InceptionFeatures(network))
