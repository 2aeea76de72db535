"""The command `evaluate` on pictures that it has not seen."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from restoration.tools.commands import main
from restoration.tools.evaluate import measures
from restoration.tools.evaluate.statistics import bootstrap


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8)).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Four originals, results with more and more noise, and their inputs."""
    rng = np.random.default_rng(0)
    for number, noise in enumerate((2, 8, 30, 4)):
        clean = np.asarray(
            Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((64, 48))
        )
        save(tmp_path / "hr" / "deep" / f"{number}.png", clean)
        worse = clean + noise * rng.standard_normal(clean.shape)
        save(tmp_path / "out" / "deep" / f"{number}.bmp", worse)
        save(tmp_path / "lr" / "deep" / f"{number}.png", clean[::4, ::4])
    return tmp_path


@pytest.fixture
def evaluate(folders: Path):
    def call(*arguments: object) -> int:
        words = [folders / "out", "--reference", folders / "hr", *arguments]
        return main(["evaluate", *map(str, words)])

    return call


def test_figures_are_scikit_images_and_all_forms_have_the_same(evaluate, folders, capsys) -> None:
    pytest.importorskip("skimage", reason="the figures are compared with scikit-image's")
    from skimage.color import rgb2ycbcr
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    report, metrics = folders / "report", ("--metrics", "psnr,ssim_skimage")
    assert evaluate("--input", folders / "lr", "--crop-border", 4, "-o", report, *metrics) == 0
    expected = {}
    for number in range(4):
        ours, theirs = (
            rgb2ycbcr(np.asarray(Image.open(folders / part)))[4:-4, 4:-4, 0]
            for part in (f"out/deep/{number}.bmp", f"hr/deep/{number}.png")
        )
        psnr = peak_signal_noise_ratio(theirs, ours, data_range=255)
        ssim = structural_similarity(
            theirs, ours, data_range=255, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        expected[f"deep/{number}"] = {"psnr": psnr, "ssim_skimage": ssim}
    whole = json.loads((report / "evaluation.json").read_text())
    assert set(whole["pictures"]) == set(expected)
    for name, figures in expected.items():
        assert whole["pictures"][name] == pytest.approx(figures, abs=1e-3)
    rows = list(csv.DictReader((report / "evaluation.csv").open()))
    for row in rows:
        assert float(row["ssim_skimage"]) == whole["pictures"][row["picture"]]["ssim_skimage"]
    mean = np.mean([figures["psnr"] for figures in expected.values()])
    assert whole["metrics"]["psnr"]["mean"] == pytest.approx(mean, abs=1e-3)
    said = capsys.readouterr().out
    assert f"PSNR (Y) ↑ {mean:.2f} " in " ".join(said.split())
    assert whole["worst"][:2] == ["deep/2", "deep/1"]
    assert said.split("Worst:\n")[1].startswith("deep/2: PSNR (Y) ")
    with Image.open(report / "worst.jpg") as sheet:
        assert sheet.format == "JPEG" and sheet.width == 1500
        # Three pictures of one shape in a row, four rows of them.
        assert sheet.height > 4 * 48 / 64 * (1500 - 12) / 3


def test_nothing_is_replaced(evaluate, folders, capsys) -> None:
    (folders / "evaluation.csv").write_text("mine")
    assert evaluate("-o", folders) == 2
    assert "evaluation.csv is there already: take another --output" in capsys.readouterr().err
    assert (folders / "evaluation.csv").read_text() == "mine"
    assert not (folders / "evaluation.json").exists()


def test_what_has_no_partner_is_named_and_the_rest_is_measured(evaluate, folders, capsys) -> None:
    (folders / "hr" / "deep" / "3.png").unlink()
    save(folders / "hr" / "other.png", np.zeros((48, 64, 3)))
    assert evaluate() == 0
    said = capsys.readouterr()
    assert "without a partner: deep/3" in said.err and "without a partner: other" in said.err
    assert said.out.splitlines()[1].endswith("  3")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (
            lambda f: save(f / "hr/deep/1.png", np.zeros((48, 60, 3))),
            "deep/1: The pictures differ in",
        ),
        (lambda f: (f / "out/deep/1.bmp").write_bytes(b"none"), "deep/1: cannot identify image"),
        (
            lambda f: save(f / "hr/deep/1.bmp", np.zeros((4, 4, 3))),
            "called the same but for the ext",
        ),
        (lambda f: (f / "hr").rename(f / "x"), "hr is no folder"),
        (lambda f: (f / "out/deep").rename(f / "deep"), "out has no pictures"),
        (lambda f: (f / "hr/deep").rename(f / "hr/shallow"), "paired with originals by their name"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(evaluate, folders, capsys, act, words) -> None:
    act(folders)
    assert evaluate() == 2
    assert words in capsys.readouterr().err


def test_a_metric_without_its_weights_says_what_to_put_where(
    evaluate, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name, file in (("lpips", "alexnet-owt-7be5be79.pth (233 MB)"), ("dists", "(528 MB)")):
        assert evaluate("--metrics", f"psnr,{name}") == 2
        assert file in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate("--metrics", "psnr,niqe")
    assert (
        "there is no metric niqe; there are psnr, ssim, ssim_skimage, lpips, dists"
        in capsys.readouterr().err
    )


def test_networks_are_loaded_once_for_all_pictures(evaluate, monkeypatch, capsys) -> None:
    loads, calls = [], []

    class Network:
        def __call__(self, image, reference):
            calls.append(image.shape)
            return (image - reference).abs().mean()

    for name in ("load_lpips", "load_dists"):
        monkeypatch.setattr(measures, name, lambda name=name: loads.append(name) or Network())
    assert evaluate("--metrics", "dists,lpips,psnr") == 0
    assert loads == ["load_lpips", "load_dists"] and len(calls) == 8
    said = capsys.readouterr().out
    assert "LPIPS ↓" in said and "DISTS ↓" in said
    assert said.split("Worst:\n")[1].startswith("deep/2: ")


def test_what_a_set_has_and_what_a_result_has_alone_stand_with_the_rest(
    evaluate, folders, monkeypatch, capsys
) -> None:
    class Difference:
        total = 0.0

        def add(self, result, reference):
            assert result.shape == reference.shape == (1, 3, 40, 56)  # inside the border
            self.total += (result - reference).abs().mean().item()

        def figure(self):
            return 100 * self.total

    loads = {"fid": Difference, "clipiqa": lambda: lambda pixels: pixels[..., :3, :5].sum()}
    for name, load in loads.items():
        monkeypatch.setitem(measures.MEASURES, name, replace(measures.MEASURES[name], load=load))
    report = folders / "report"
    assert evaluate("--metrics", "clipiqa,fid,psnr", "--crop-border", 4, "-o", report) == 0
    whole = json.loads((report / "evaluation.json").read_text())
    assert list(whole["pictures"]["deep/0"]) == ["psnr", "clipiqa"] == list(whole["metrics"])
    table = [line.split("  ") for line in capsys.readouterr().out.splitlines()[1:4]]
    assert [row[0] for row in table] == ["PSNR (Y) ↑", "FID ↓", "CLIP-IQA ↑"]
    (fid,) = whole["whole_set"].values()
    assert fid > 1 and [each.strip() for each in table[1] if each] == ["FID ↓", f"{fid:.2f}", "4"]

    assert main(["evaluate", str(folders / "out"), "--metrics", "clipiqa"]) == 0
    assert "CLIP-IQA ↑" in capsys.readouterr().out
    assert evaluate("--metrics", "fid", "--crop-border", 4, "-o", folders / "set") == 0
    assert "Worst" not in capsys.readouterr().out and not (folders / "set" / "worst.jpg").exists()
    assert main(["evaluate", str(folders / "out"), "--metrics", "clipiqa,fid"]) == 2
    assert "Without them there is --metrics brisque,clipiqa." in capsys.readouterr().err


def test_the_interval_is_a_bootstraps() -> None:
    """Of many pictures it is the one of the normal distribution; of equal ones it is empty."""
    values = np.random.default_rng(1).normal(30, 4, 400)
    found = bootstrap(values.tolist())
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean()) and found.count == 400
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert bootstrap([7.0] * 5) == bootstrap([7.0] * 5)
    assert (bootstrap([7.0]).low, bootstrap([7.0]).high) == (7, 7)
