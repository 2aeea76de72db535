from __future__ import annotations

import pytest
import torch

from restoration.stage1 import restorer
from restoration.stage1.restorer import Padding, blend, load_bundled, padding_of, restore, unclamped

pytest.importorskip("spandrel", reason="spandrel runs the stage-1 networks: pip install spandrel")


def test_padding_sizes() -> None:
    assert Padding(64).size(1, 65) == (64, 128)
    assert Padding(1, minimum=16).size(3, 40) == (16, 40)
    assert Padding(8, square=True).size(9, 30) == (32, 32)


def test_diffbirs_swinir_gets_zeros_and_scunet_its_own_edge() -> None:
    """The golden cases of SwinIR are multiples of 64, so its padding is checked here."""
    from restoration.tests.golden.runners_foundation import stage_1_descriptor
    from restoration.tests.golden.suite import FOLDER, read_case

    case = read_case(FOLDER / "diffbir" / "swinir_tiny.json")
    descriptor = stage_1_descriptor(case)
    assert padding_of(descriptor) == Padding(64, "zeros")
    picture = case.tensors["lq"][..., :100, :70]
    with torch.no_grad():
        padded = torch.nn.functional.pad(picture, (0, 58, 0, 28))
        expected = descriptor.model.eval()(padded)[..., :100, :70]
        assert torch.equal(unclamped(descriptor)(picture), expected)
    scunet = stage_1_descriptor(read_case(FOLDER / "diffbir" / "scunet_tiny.json"))
    assert padding_of(scunet) == Padding(64, "replicate")


def test_strength_is_exact_at_both_ends() -> None:
    pixels, restored = torch.rand(1, 3, 5, 6), torch.rand(1, 3, 5, 6)
    assert torch.equal(blend(pixels, restored, 0.0), pixels)
    assert torch.equal(blend(pixels, restored, 1.0), restored)
    assert blend(pixels, torch.rand(1, 3, 10, 12), 0.5).shape == (1, 3, 10, 12)


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (40, 24)])
def test_the_bundled_model_keeps_any_size(size: tuple[int, int]) -> None:
    descriptor = load_bundled()
    network = unclamped(descriptor, restorer.BUNDLED_PADDING)
    with torch.no_grad():
        result = restore(torch.rand(2, 3, *size), network, descriptor.scale, 32, 8)
    assert result.shape == (2, 3, *size) and torch.isfinite(result).all()


def test_the_bundled_model_cleans_noise_and_tiles_agree() -> None:
    clean = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6), (96, 96), mode="bicubic")
    noisy = (clean + 0.1 * torch.randn(clean.shape)).clamp(0, 1)
    descriptor = load_bundled()
    network = unclamped(descriptor, restorer.BUNDLED_PADDING)
    with torch.no_grad():
        whole = restore(noisy, network, 1, 0, 0)
        tiled = restore(noisy, network, 1, 64, 32)
    error = (noisy - clean).square().mean()
    assert (whole - clean).square().mean() < error / 3
    # Its channel attention sees the tile, not the picture, so tiles differ slightly.
    assert (tiled - whole).abs().mean() < 0.01


def test_the_smallest_network_that_is_enough_enlarges() -> None:
    chosen = {ratio: restorer.enlarger_for(ratio) for ratio in (0.5, 1, 1.01, 2, 2.01, 4, 9)}
    assert chosen == {0.5: 1, 1: 1, 1.01: 2, 2: 2, 2.01: 4, 4: 4, 9: 4}


@pytest.mark.parametrize("factor", restorer.ENLARGERS)
def test_enlarging_networks_beat_bicubic_keep_even_colors_and_take_any_size(factor: int) -> None:
    from restoration.common.metrics import psnr
    from restoration.common.resample import resize

    descriptor = restorer.load_enlarger(factor)
    run = unclamped(descriptor)

    def network(pixels: torch.Tensor) -> torch.Tensor:
        return restorer.without_edge(run(restorer.with_edge(pixels)), factor)

    assert descriptor.scale == factor
    rows = torch.linspace(-3, 3, 96)
    disk = (rows[:, None].square() + (rows - 0.3).square() * 2 - 3).mul(12).sigmoid()
    sharp = torch.stack([disk, 1 - disk, 0.5 + disk / 3])[None]
    small = resize(sharp, 96 // factor, 96 // factor).clamp(0, 1)
    with torch.no_grad():
        gain = psnr(network(small), sharp, peak=1) - psnr(resize(small, 96, 96), sharp, peak=1)
        assert gain > 1
        even = torch.tensor([0.8, 0.1, 0.2]).view(1, 3, 1, 1).expand(1, 3, 24, 24)
        assert (network(even) - even[..., :1, :1]).abs().max() < 0.5 / 255
        assert network(torch.rand(1, 3, 1, 3)).shape == (1, 3, factor, 3 * factor)


@pytest.mark.parametrize("spoil", ["missing", "garbage", "another network"])
def test_a_bad_bundled_file_gets_a_sentence(tmp_path, monkeypatch, spoil: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    if spoil == "garbage":
        path.write_bytes(b"not a safetensors file")
    elif spoil == "another network":
        save_file({"conv.weight": torch.zeros(3, 3, 3, 3)}, path)
    monkeypatch.setattr(restorer, "BUNDLED_WEIGHTS", path)
    with pytest.raises(RuntimeError, match=r"weights\.safetensors cannot be read .*Reinstall"):
        load_bundled()
