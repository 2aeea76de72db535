"""FID against its formula, with scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from restoration.common import needed
from restoration.tools.evaluate import distribution
from restoration.tools.evaluate.distribution import FrechetDistance, InceptionFeatures, load_fid

pytest.importorskip("torchmetrics", reason="the extra `evaluation` is not installed")


class Means(nn.Module):
    """A feature for each of a picture's 2x2 blocks and colors."""

    num_features = 12

    def forward(self, pixels: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(1)


def test_the_distance_is_the_formulas() -> None:
    """Of |m - n|^2 + tr(S + T - 2 (S T)^1/2), with numpy's covariances and scipy's root."""
    from scipy.linalg import sqrtm

    generator = torch.Generator().manual_seed(0)
    references = torch.rand(40, 3, 8, 8, generator=generator)
    results = (0.8 * references + 0.3 * torch.rand(40, 3, 8, 8, generator=generator)).clamp(0, 1)
    distance = FrechetDistance(Means())
    for result, reference in zip(results.split(1), references.split(1), strict=True):
        distance.add(result, reference)
    (m, s), (n, t) = (
        (f.mean(0), np.cov(f, rowvar=False))
        for f in (Means()(each).double().numpy() for each in (results, references))
    )
    expected = ((m - n) ** 2).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert distance.figure() == pytest.approx(expected, rel=1e-4) and expected > 0.01


def test_pictures_are_resized_as_pillow_does() -> None:
    """Its bicubic has no aliasing and keeps fractions; the network sees (x - 128) / 128."""
    seen = []

    class Network(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            seen.append(x)
            return [x.mean((2, 3), keepdim=True)]

    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (1, 3, 700, 410), generator=generator).float()
    assert InceptionFeatures(Network())(pixels / 255).shape == (1, 3)
    for ours, channel in zip(seen[0][0], pixels[0].numpy(), strict=True):
        resized = Image.fromarray(channel).resize((299, 299), Image.Resampling.BICUBIC)
        theirs = (np.asarray(resized).clip(0, 255) - 128) / 128
        assert np.abs(ours.numpy() - theirs).max() < 1e-4


def test_one_pair_has_no_covariance() -> None:
    distance = FrechetDistance(Means())
    distance.add(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="two pairs or more"):
        distance.figure()


def test_the_published_network_is_loaded_from_where_it_lies(tmp_path, monkeypatch) -> None:
    """Without a look at the network: the file is found by piq at the place that we name."""
    from piq.feature_extractors import fid_inception

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"6726825d\.pth \(91 MB\) there, or leave `fid` out"):
        load_fid()
    assert distribution.INCEPTION.address == fid_inception.FID_WEIGHTS_URL
    place = distribution.INCEPTION.place
    assert place.parent == tmp_path / "checkpoints"
    place.parent.mkdir()
    torch.save({"weight": torch.tensor([1.0])}, place)

    def network(**options: bool) -> nn.Module:
        assert options == {"resize_input": False, "normalize_input": False}
        found = fid_inception.load_state_dict_from_url(fid_inception.FID_WEIGHTS_URL)
        assert found["weight"].item() == 1
        return nn.Identity()

    monkeypatch.setattr("piq.feature_extractors.InceptionV3", network)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("fetched"))
    load_fid()


def test_a_missing_package_is_a_sentence(monkeypatch) -> None:
    monkeypatch.setattr(needed.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError,
        match=r"`fid` needs the package torchmetrics, which ComfyUI does not install: run `pip",
    ):
        load_fid()
