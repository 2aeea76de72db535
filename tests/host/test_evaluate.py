"""The nodes of evaluation in ComfyUI: damage, figures, and what was invented."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import pytest
import torch

from restoration.tests.host import workflow_runs

pytestmark = pytest.mark.host


@pytest.fixture
def nodes(comfy) -> Any:
    from restoration.nodes import evaluate

    return evaluate


def photo(height: int = 48, width: int = 64, channels: int = 3, rows: int = 1) -> torch.Tensor:
    coarse = torch.rand(rows, channels, 6, 8)
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return large.clamp(0, 1).mul(255).round().div(255).movedim(1, -1).contiguous()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_damage_keeps_alpha_and_comes_at_both_sizes(nodes, channels: int) -> None:
    image = photo(channels=channels)
    for size, expected in (("quarter_size", (12, 16)), ("input_size", (48, 64))):
        damaged, _ = nodes.RealWorldDegradation.execute(image, "realesrgan", 3, size).result
        assert damaged.shape == (1, *expected, max(3, channels))
        assert damaged.min() >= 0 and damaged.max() <= 1
    if channels == 4:
        assert torch.equal(damaged[..., 3], image[..., 3])


def test_each_picture_of_a_batch_has_its_seed_and_the_steps_are_told(nodes) -> None:
    images = photo(rows=3)
    execute = nodes.RealWorldDegradation.execute
    top = 2**64 - 1  # the largest that the widget takes: the next ones must not wrap or fail
    damaged, steps = execute(images, "diffbir_v2", top, "quarter_size").result
    for row, line in enumerate(steps.split("\n")):
        assert line.startswith(f"seed {top + row}: blur ") and "JPEG" in line
    third, _ = execute(images[2:], "diffbir_v2", 9, "quarter_size").result
    batch, _ = execute(images, "diffbir_v2", 7, "quarter_size").result
    assert torch.equal(third, batch[2:])
    assert damaged.shape == batch.shape and not torch.equal(damaged, batch)


def test_damage_shows_progress_and_can_be_interrupted(comfy, nodes, monkeypatch) -> None:
    import comfy.utils as utils

    seen = []

    def hook(value: int, total: int, *_: Any, **__: Any) -> None:
        seen.append((value, total))
        comfy.model_management.throw_exception_if_processing_interrupted()

    monkeypatch.setattr(utils, "PROGRESS_BAR_HOOK", hook)
    comfy.model_management.interrupt_current_processing(True)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            nodes.RealWorldDegradation.execute(photo(rows=4), "pasd", 0, "quarter_size")
    finally:
        comfy.model_management.interrupt_current_processing(False)
    assert seen == [(1, 4)]


def test_figures_are_means_and_shown_for_every_picture(nodes) -> None:
    from restoration.common.metrics import luma_psnr, luma_ssim

    images = photo(rows=2)
    worse = images.clone()
    worse[1] = (worse[1] + 0.2 * torch.rand_like(worse[1])).clamp(0, 1)
    output = nodes.RestorationMetrics.execute(worse, images, 2, False)
    mean_psnr, mean_ssim, lpips, text, *others = output.result
    pair = worse.movedim(-1, 1), images.movedim(-1, 1)
    assert mean_psnr == pytest.approx(luma_psnr(*pair, 2).mean().item())
    assert mean_ssim == pytest.approx(luma_ssim(*pair, 2).mean().item())
    assert all(map(math.isnan, (lpips, *others)))
    lines = text.split("\n")
    assert lines[0] == "image 1: PSNR 100.00, SSIM 1.0000"
    assert lines[1].startswith("image 2: PSNR ") and "100.00" not in lines[1]
    assert lines[2] == f"mean: PSNR {mean_psnr:.2f}, SSIM {mean_ssim:.4f}"
    assert output.ui.as_dict() == {"text": (text,)}


def test_one_reference_serves_a_batch_and_one_picture_has_one_line(nodes) -> None:
    images = photo(rows=3)
    execute = nodes.RestorationMetrics.execute
    figure, _, _, text, *_ = execute(images, images[:1], 0, False).result
    alone = [execute(i[None], images[:1], 0, False).result[0] for i in images]
    assert figure == pytest.approx(np.mean(alone)) and text.count("image") == 3
    assert execute(images[1:2], images[:1], 0, False).result[3].startswith("PSNR ")
    with pytest.raises(ValueError, match="`reference` has 2 images, but there are 3"):
        execute(images, images[:2], 0, False)
    with pytest.raises(ValueError, match="`image` is 64x48, `reference` is 32x24"):
        execute(images, images[:, ::2, ::2], 0, False)


@pytest.fixture
def hub(tmp_path):
    """torch's folder of downloaded weights, empty."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    yield tmp_path / "checkpoints"
    torch.hub.set_dir(before)


def test_lpips_without_its_package_or_weights_says_what_to_get(nodes, hub, monkeypatch) -> None:
    images = photo()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name == "torchmetrics" or find(name)
    )
    with pytest.raises(ValueError, match=r"weights that are not at .*alexnet-owt-7be5be79"):
        nodes.RestorationMetrics.execute(images, images, 0, True)
    with pytest.raises(ValueError, match=r"weights that are not at .*vgg16-397923af.*528 MB"):
        nodes.RestorationMetrics.execute(images, images, 0, False, True)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torchmetrics" else find(name)
    )
    with pytest.raises(ValueError, match="pip install torchmetrics"):
        nodes.RestorationMetrics.execute(images, images, 0, True)
    with pytest.raises(ValueError, match="at least 32x32 pixels after cropping, found 64x48"):
        nodes.RestorationMetrics.execute(images, images, 9, True)


def test_lpips_is_torchmetrics_with_weights_from_the_cache(nodes, hub, monkeypatch) -> None:
    """The backbone's published weights cannot be had in a test: random ones of the same shape."""
    pytest.importorskip("torchmetrics", reason="LPIPS runs through it: pip install torchmetrics")
    import torchvision
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    from restoration.common.lpips import BACKBONE

    assert torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url == BACKBONE.address
    torch.save(torchvision.models.alexnet().state_dict(), BACKBONE.place)

    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    images = photo(rows=2)
    worse = images.clone()
    worse[1] = torch.rand_like(worse[1])
    for crop in (0, 4):
        _, _, mean, text, *_ = nodes.RestorationMetrics.execute(worse, images, crop, True).result
        network = LearnedPerceptualImagePatchSimilarity(net_type="alex").eval()
        pm1 = [
            2 * i[:, crop : 48 - crop, crop : 64 - crop].movedim(-1, 1) - 1 for i in (worse, images)
        ]
        with torch.no_grad():
            expected = network(pm1[0][1:], pm1[1][1:]).item()
        assert expected > 0.01 and mean == pytest.approx(expected / 2, rel=1e-4)
        first, second, last = text.split("\n")
        assert first.endswith("LPIPS 0.0000") and second.endswith(f"LPIPS {expected:.4f}")
        assert last.endswith(f"LPIPS {mean:.4f}")


def test_dists_is_the_commands_and_comes_last(nodes, monkeypatch) -> None:
    """Old workflows have no such input, and their first four outputs."""
    from restoration.common import dists

    monkeypatch.setattr(dists, "load_dists", lambda: lambda x, y: (x - y).abs().mean())
    images = photo(rows=2)
    worse = images.clone()
    worse[1] = 1 - worse[1]
    *_, text, mean, _, _ = nodes.RestorationMetrics.execute(worse, images, 0, False, True).result
    expected = (worse[1] - images[1]).abs().mean().item()
    assert mean == pytest.approx(expected / 2, rel=1e-5)
    assert text.split("\n")[1].endswith(f", DISTS {expected:.4f}")
    assert (
        nodes.RestorationMetrics.execute(images, images, 0, False).result[3].startswith("image 1")
    )


def test_figures_of_a_picture_alone_come_last_and_ssim_in_the_form_that_is_asked_for(
    nodes, monkeypatch
) -> None:
    loaders = {
        "brisque": lambda: lambda x: 100 * x.mean(),
        "clipiqa": lambda: lambda x: x[0, 0].std(),
    }
    monkeypatch.setattr(nodes, "_ALONE", loaders)
    images = photo(rows=2)
    worse = 1 - images
    forms = ("scikit-image", "papers")
    old, new = (
        nodes.RestorationMetrics.execute(worse, images, 4, False, False, True, True, form).result
        for form in forms
    )
    inner = worse[:, 4:-4, 4:-4]
    assert old[5] == pytest.approx(100 * inner.mean().item(), rel=1e-5)
    assert old[6] == pytest.approx(inner[..., 0].std((1, 2)).mean().item(), rel=1e-5)
    last = f"BRISQUE {100 * inner[1].mean():.2f}, CLIP-IQA {inner[1, ..., 0].std():.4f}"
    assert old[3].split("\n")[1].endswith(last)
    assert old[1] < 0 < new[1] and (old[0], old[5:]) == (new[0], new[5:])


def test_invented_areas_come_as_number_heatmap_and_mask(nodes) -> None:
    from restoration.common.resample import resize

    result = photo(96, 128, rows=2)
    lr = resize(result.movedim(-1, 1), 24, 32).movedim(1, -1)
    execute = nodes.LRConsistency.execute
    figure, heatmap, mask = execute(result, lr, 16.0, 0.0, 1.0).result
    assert figure == 100 and not heatmap.any() and not mask.any()
    result[1, 32:64, 40:80] = 1 - result[1, 32:64, 40:80]
    figure, heatmap, mask = execute(result, lr, 16.0, 0.0, 1.0).result
    assert figure < 100 and heatmap.shape == (2, 96, 128, 3) and mask.shape == (2, 96, 128)
    assert not mask[0].any() and not heatmap[0].any()
    assert mask[1, 36:60, 44:76].mean() > 0.8 and not mask[1, :, :24].any()
    soft = execute(result, lr, 16.0, 40.0, 1.0).result[2]
    assert (soft <= mask).all() and 0 < soft.mean() < mask.mean()
    one = execute(result, lr[1:], 16.0, 0.0, 1.0).result[2]
    assert torch.equal(one[1], mask[1]) and one[0].any()
    with pytest.raises(ValueError, match="`lr` is empty"):
        execute(result, lr[:0], 16.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="`lr` has 2 images, but there are 3"):
        execute(photo(96, 128, rows=3), lr, 16.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="swapped"):
        execute(lr, result, 16.0, 0.0, 1.0)


@pytest.mark.parametrize("scale", [1.0, 1.5, 4.0])
@pytest.mark.parametrize("fit", ["pad", "stretch", "black"])
def test_the_mask_fits_a_second_run_of_any_size(nodes, scale: float, fit: str) -> None:
    """Through Prepare Restoration it lies on the working picture where the stain would."""
    from restoration.common.resample import resize
    from restoration.nodes.restoration import RestorationPrepare

    lr = photo(50, 66)
    height, width = int(50 * scale), int(66 * scale)
    stain = torch.zeros(1, height, width, 3)
    stain[:, height // 5 : height // 2, width // 2 : width * 4 // 5] = 1
    clean = resize(lr.movedim(-1, 1), height, width).movedim(1, -1).clamp(0, 1)
    result = torch.lerp(clean, 1 - clean.round(), stain)
    mask = nodes.LRConsistency.execute(result, lr, 16.0, 0.0, 1.0).result[2]
    for again, upscale_by in ((lr, 3.0), (result, 1.0)):
        settings = (again, upscale_by, 128, 64, fit)
        picture, info, worked = RestorationPrepare.execute(*settings, mask=mask).result
        stained, _, _ = RestorationPrepare.execute(stain, 1.0, 0, 1, fit).result
        assert worked.shape == picture.shape[:3]
        rows, columns = info.content_size
        expected = resize(stained.movedim(-1, 1), rows, columns)[0, 0]
        found = worked[0, :rows, :columns]
        # One pixel of the small picture to each side of the stain's edge.
        assert (found - expected).abs().mean() < 0.06
        for dim in (0, 1):
            ours, theirs = (edges((each > 0.5).any(1 - dim)) for each in (found, expected))
            slack = 2 * max(rows / 50, columns / 66)
            assert (ours - theirs).abs().max() <= slack


def edges(inside: torch.Tensor) -> torch.Tensor:
    """The first and the last true of a row."""
    return inside.nonzero().flatten()[[0, -1]]


def test_the_three_run_as_one_graph(comfy) -> None:
    """Damage, enlarge, measure, look: by ComfyUI's own executor, twice the same."""
    prompt = {
        "1": {
            "class_type": "LoadImage",
            "inputs": {"image": workflow_runs.photo(comfy)},
        },
        "2": {
            "class_type": "RealWorldDegradation",
            "inputs": {
                "image": ["1", 0],
                "preset": "realesrgan",
                "seed": 2**64 - 1,
                "output_size": "quarter_size",
            },
        },
        "3": {
            "class_type": "ImageScale",
            "inputs": {
                "image": ["2", 0],
                "upscale_method": "bicubic",
                "width": workflow_runs.WIDTH,
                "height": workflow_runs.HEIGHT,
                "crop": "disabled",
            },
        },
        "4": {
            "class_type": "RestorationMetrics",
            "inputs": {
                "image": ["3", 0],
                "reference": ["1", 0],
                "crop_border": 0,
                "lpips": False,
            },
        },
        "5": {
            "class_type": "LRConsistency",
            "inputs": {
                "result": ["1", 0],
                "lr": ["2", 0],
                "threshold": 1.0,
                "softness": 0.0,
                "downscale": 1.0,
            },
        },
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 1], "filename_prefix": "heat"}},
    }
    with workflow_runs.replaced_loaders(comfy, {}):
        heat = workflow_runs.run(comfy, prompt)
        assert heat.shape == (workflow_runs.HEIGHT, workflow_runs.WIDTH, 3) and heat.any()
        assert np.array_equal(heat, workflow_runs.run(comfy, prompt))
