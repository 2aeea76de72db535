"""CLIP-IQA and BRISQUE against other implementations, with weights that were drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from restoration.common import no_reference
from restoration.common.no_reference import load_brisque, load_clipiqa

pytest.importorskip("piq", reason="the extra `evaluation` is not installed")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are looked for; to fetch any is a failure."""

    def fetch(*_: object, **__: object) -> None:
        pytest.fail("fetched")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    for module in ("piq.feature_extractors.clip", "piq.utils.common"):
        monkeypatch.setattr(sys.modules[module], "urlopen", fetch)
    return tmp_path


class Bag(nn.Module):
    """Holds tensors under any names."""

    def forward(self, x):  # TorchScript reads no annotations that are text
        return x


def bag_of(tensors: dict[str, Tensor]) -> nn.Module:
    top = Bag()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module: nn.Module = top
        for each in path:
            if each not in module._modules:
                module.add_module(each, Bag())
            module = module.get_submodule(each)
        module.register_buffer(last, tensor)
    return top


@pytest.fixture
def small_clip(home: Path) -> nn.Module:
    """A CLIP of the published kind, where piq looks for that."""
    from piq.feature_extractors import clip

    torch.manual_seed(0)
    network = clip.CLIP(16, 32, (1, 1, 1, 1), 8, None, 77, 50, 64, 1, 1).eval()
    with torch.no_grad():
        network.logit_scale.fill_(np.log(100))
        for name, tensor in network.named_parameters():
            if name.endswith("bn3.weight"):  # which begin as 0, so that blocks do nothing
                tensor.fill_(0.5)
    # The published file is an archive of TorchScript, in halves but for that scale.
    halves = {
        name: tensor.half().float() if tensor.dim() and tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    folder = home / ".cache" / "clip"
    folder.mkdir(parents=True)
    torch.jit.save(torch.jit.script(bag_of(halves)), folder / "RN50.pt")
    torch.save(tokens(), folder / "clipiqa_tokens.pt")
    network.load_state_dict(halves)
    return network


def tokens() -> Tensor:
    found = torch.zeros(2, 77, dtype=torch.long)
    found[0, :4] = torch.tensor([48, 7, 9, 49])
    found[1, :4] = torch.tensor([48, 8, 9, 49])
    return found


def test_clip_iqa_is_torchmetrics(small_clip) -> None:
    pytest.importorskip("torchmetrics", reason="the figures are compared with torchmetrics's")
    from torchmetrics.functional.multimodal import clip_iqa as theirs

    class Processor:
        tokenizer = SimpleNamespace(model_max_length=77)

        def __call__(self, text: list[str]) -> dict[str, list[list[int]]]:
            assert text == ["Good photo.", "Bad photo."]
            return {"input_ids": [[48, 7, 9, 49], [48, 8, 9, 49]]}

    measure = load_clipiqa()
    words, names = theirs._clip_iqa_format_prompts(("quality",))
    processor = Processor()
    with torch.no_grad():
        anchors = theirs._clip_iqa_get_anchor_vectors(
            "clip_iqa", small_clip, processor, words, "cpu"
        )
    found = []
    for seed, size in enumerate(((64, 64), (96, 70), (40, 130))):
        pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))
        pixels = pixels ** (3 * seed + 0.2)  # from white to black
        with torch.no_grad():
            features = theirs._clip_iqa_update(
                "clip_iqa", pixels, small_clip, processor, 1.0, "cpu"
            )
        expected = theirs._clip_iqa_compute(features, anchors, names)
        found.append(measure(pixels).item())
        assert found[-1] == pytest.approx(expected.item(), abs=1e-5)
    assert min(found) > 0 and max(found) < 1 and np.ptp(found) > 1e-3


def photo() -> np.ndarray:
    """A texture."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(0).normal(0, 1, (96, 128, 3)), (1, 1, 0))
    return (128 + 40 * noise / noise.std()).clip(0, 255).round()


def halved(x: np.ndarray) -> np.ndarray:
    """As MATLAB's imresize does it: Keys' cubic, twice as wide, mirrored at the border."""
    away = np.abs(np.arange(-3, 5) - 0.5) / 2
    near = 1.5 * away**3 - 2.5 * away**2 + 1
    far = -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    taps = np.where(away <= 1, near, far)
    for _ in range(2):
        wide = np.pad(x, ((4, 4), (0, 0)), mode="symmetric")
        rows = len(x) // 2
        x = sum(t * wide[1 + k : 1 + k + 2 * rows : 2] for k, t in enumerate(taps / taps.sum())).T
    return x


def statistics(luma: np.ndarray) -> list[float]:
    """The 18 features of one scale, as Mittal et al. 2012 define them, with roots found, not looked
    up in a table."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.optimize import brentq
    from scipy.special import gamma

    def mean(x: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            x = gaussian_filter1d(x, 7 / 6, axis, mode="constant", radius=3)
        return x

    mu = mean(luma)
    local = (luma - mu) / (np.sqrt(np.abs(mean(luma**2) - mu**2)) + 1)
    ratio = (local**2).mean() / np.abs(local).mean() ** 2
    shape = brentq(lambda a: gamma(1 / a) * gamma(3 / a) / gamma(2 / a) ** 2 - ratio, 0.2, 10)
    features = [shape, (local**2).mean()]
    for shift in ((0, 1), (1, 0), (1, 1), (-1, 1)):
        product = local * np.roll(local, shift, (0, 1))
        left, right = (np.sqrt((product[s] ** 2).mean()) for s in (product < 0, product > 0))
        g = left / right
        wanted = np.abs(product).mean() ** 2 / (product**2).mean()
        wanted *= (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
        a = brentq(lambda a: gamma(2 / a) ** 2 / gamma(1 / a) / gamma(3 / a) - wanted, 0.2, 10)  # noqa: B023
        eta = (right - left) * gamma(2 / a) / np.sqrt(gamma(1 / a) * gamma(3 / a))
        features += [a, eta, left**2, right**2]
    return features


def test_brisque_is_the_papers(home) -> None:
    rng = np.random.default_rng(1)
    vectors, factors = rng.normal(0, 0.7, (200, 36)), rng.normal(0, 90, 200)
    (home / "hub" / "checkpoints").mkdir(parents=True)
    published = (torch.tensor(factors)[:, None], torch.tensor(vectors))
    torch.save(published, no_reference.SUPPORT_VECTORS.place)

    rgb = photo()
    luma = (rgb @ (0.299, 0.587, 0.114)).round()
    features = np.array([*statistics(luma), *statistics(halved(luma))])
    # The ranges of the published model's features are data: piq has them in a function.
    scale = sys.modules["piq.brisque"]._scale_features
    zero, one = (
        scale(torch.full((1, 36), each, dtype=torch.float64))[0].numpy() for each in (0, 1)
    )
    scaled = zero + (one - zero) * features
    expected = factors @ np.exp(-0.05 * ((vectors - scaled) ** 2).sum(1)) + 153.591

    pixels = torch.from_numpy(rgb).movedim(-1, 0)[None].float() / 255
    assert load_brisque()(pixels).item() == pytest.approx(expected, abs=0.05)
    # A coarser one differs by more than that.
    assert abs(load_brisque()(nn.functional.avg_pool2d(pixels, 3, 1, 1)).item() - expected) > 1


def test_a_picture_of_one_color_is_a_sentence(home) -> None:
    (home / "hub" / "checkpoints").mkdir(parents=True)
    torch.save((torch.zeros(1, 1), torch.zeros(1, 36)), no_reference.SUPPORT_VECTORS.place)
    with pytest.raises(ValueError, match="BRISQUE is not defined here"):
        load_brisque()(torch.full((1, 3, 64, 64), 0.5))


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (load_clipiqa, r"not at .*\.cache/clip/RN50\.pt\. Put .*v0\.7\.1/RN50\.pt \(244 MB\)"),
        (load_brisque, r"checkpoints/brisque_svm_weights\.pt\. Put https.* \(112 KB\) there"),
    ],
)
def test_missing_weights_are_named_and_not_fetched(load, words) -> None:
    with pytest.raises(ValueError, match=words):
        load()
