"""DISTS against piq's, with the same random backbone; and what is said where something is missing."""

from __future__ import annotations

import copy

import pytest
import torch

from restoration.common import dists

pytest.importorskip("torchmetrics", reason="DISTS runs through it: pip install torchmetrics")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_missing_weights_are_named_with_their_address_and_size(hub) -> None:
    with pytest.raises(ValueError, match=r"weights that are not at .*vgg16-397923af.*528 MB"):
        dists.load_dists()
    small = torch.zeros(1, 3, 40, 40)
    with pytest.raises(ValueError, match="at least 32x32 pixels after cropping, found 40x40"):
        dists.structure_texture_distance(small, small, 5)


def test_it_is_piqs_with_the_same_weights(monkeypatch) -> None:
    piq = pytest.importorskip("piq", reason="the figures are compared with piq's")
    import torchvision
    from torchmetrics.functional.image import dists as theirs

    torch.manual_seed(0)
    vgg = torchvision.models.vgg16()
    monkeypatch.setattr(theirs, "vgg16", lambda weights: vgg)
    network = theirs.DISTSNetwork().eval()
    weights = {"alpha": network.alpha.data, "beta": network.beta.data}
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: weights)
    monkeypatch.setattr(piq.perceptual, "vgg16", lambda *a, **k: copy.deepcopy(vgg))
    independent = piq.DISTS(reduction="none").eval()
    image = torch.rand(2, 3, 56, 72)
    worse = (image + 0.2 * torch.randn_like(image)).clamp(0, 1)
    worse[1] = image[1]
    ours = dists.structure_texture_distance(worse, image, 4, network)
    cropped = [each[..., 4:-4, 4:-4] for each in (worse, image)]
    with torch.no_grad():
        expected = independent(*cropped).flatten()
    assert expected[0] > 0.01 and ours[1].abs() < 1e-5
    assert torch.allclose(ours, expected.double(), atol=1e-5)
