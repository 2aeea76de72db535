"""A published test set through a workflow, on a server that only pretends."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from restoration.tests.tools.folder.fake_comfy import WORKFLOW, FakeComfy
from restoration.tests.tools.folder.helpers import photo, records
from restoration.tools.comfyui import client
from restoration.tools.commands import main
from restoration.tools.evaluate.published import COLUMNS, SETS, set_called

NAMES = ("Canon_1", "Nikon_2", "Nikon_3")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeComfy]:
    """Enlarges by 4."""
    monkeypatch.setattr(client, "_events", lambda *address: contextlib.nullcontext())
    server = FakeComfy()
    server.restore = lambda image: [image.resize((4 * image.width, 4 * image.height))]
    yield server
    server.close()


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Three pairs in the papers' layout."""
    folder = tmp_path / "benchmark_drealsr"
    for number, name in enumerate(NAMES):
        photo(folder / "test_HR" / f"{name}.png", 50 * number, (96, 64))
        photo(folder / "test_LR" / f"{name}.png", 50 * number, (24, 16))
    return folder


@pytest.fixture
def evaluate(fake: FakeComfy, benchmark: Path, tmp_path: Path):
    workflow = tmp_path / "workflow.json"
    workflow.write_text(json.dumps(WORKFLOW))

    def call(*arguments: object, folder: Path = benchmark) -> int:
        words = ["--benchmark", folder, "--workflow", workflow, "--server", fake.url, *arguments]
        return main(["evaluate", *map(str, words)])

    return call


def test_our_line_stands_above_the_published_ones(evaluate, tmp_path, capsys) -> None:
    assert evaluate("-o", tmp_path / "out") == 0
    whole = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert set(whole["pictures"]) == set(NAMES) and Path(whole["settings"]["input"]).is_dir()
    lines = capsys.readouterr().out.split("DRealSR:\n")[1].splitlines()
    assert lines[0].split("  ")[-1].strip() == "CLIP-IQA ↑"
    psnr, ssim = (whole["metrics"][name]["mean"] for name in ("psnr", "ssim"))
    here = [f"{psnr:.2f}", f"{ssim:.4f}", *["-"] * 7, "here"]
    assert lines[1].split()[-10:] == here and "workflow.json" in lines[1]
    osediff = "OSEDiff, 1 step 27.92 0.7835 0.2968 0.2165 135.30 6.4902 64.65 0.5899 0.6963 [1]"
    assert osediff in [" ".join(line.split()) for line in lines]
    assert "[1] Wu et al. 2024 (OSEDiff), arXiv 2406.08177, table 1" in lines
    assert lines[-1] == "The papers have 93 pictures, here are 3."


def test_a_set_that_was_interrupted_goes_on_where_it_stopped(
    evaluate, fake, tmp_path, capsys
) -> None:
    out = tmp_path / "out"
    fake.refuse = lambda prompt, image: "no room" if len(fake.prompts) == 2 else None
    assert evaluate("-o", out) == 2
    assert "Failed: 1 of 3" in capsys.readouterr().err
    assert not (out / "evaluation.json").exists()
    assert evaluate("-o", out) == 0
    assert len(fake.prompts) == 4  # the failed one alone came again
    assert [record["status"] for record in records(out / "results")] == [
        "done", "failed", "done", "done",
    ]  # fmt: skip


def test_lines_of_a_set_stand_beside_results_that_are_there_already(benchmark, capsys) -> None:
    high = benchmark / "test_HR"
    assert main(["evaluate", str(high), "--reference", str(high), "--set", "realsr"]) == 0
    said = capsys.readouterr().out.split("RealSR:\n")[1]
    assert said.splitlines()[1].split()[:3] == ["test_HR", "100.00", "1.0000"]
    assert "123.49" in said and "135.30" not in said


@pytest.mark.parametrize(
    ("act", "arguments", "words"),
    [
        (lambda f: (f / "test_LR").rename(f / "LR"), ("-o", "out"), "has no test_LR and test_HR"),
        (lambda f: (f / "test_LR/Canon_1.png").unlink(), ("-o", "out"), "partner: Canon_1: the"),
        (lambda f: None, (), "--benchmark needs --output"),
        (lambda f: None, ("-o", "out", "--reference", "x"), "leave RESULTS and"),
        (lambda f: None, ("-o", "out", "--ray", "--server", "x"), "--ray starts its own ComfyUI"),
    ],
)
def test_what_is_no_benchmark_is_refused_before_any_work(
    evaluate, fake, benchmark, tmp_path, monkeypatch, capsys, act, arguments, words
) -> None:
    monkeypatch.chdir(tmp_path)
    act(benchmark)
    assert evaluate(*arguments) == 2
    assert words in capsys.readouterr().err
    assert not fake.prompts and not (tmp_path / "out").exists()


def test_a_folder_is_of_the_set_whose_name_it_has() -> None:
    names = {
        "benchmark_drealsr": "DRealSR", "DrealSRVal_crop128": "DRealSR", "RealSR": "RealSR",
        "test-real_sr": "RealSR",
    }  # fmt: skip
    found = {name: of.title if (of := set_called(name)) else None for name in names}
    assert found == names and set_called("DIV2K") is None


def test_published_figures_are_in_the_range_of_their_metric() -> None:
    """A digit too few or two columns exchanged would be seen."""
    ranges = dict(
        zip(
            COLUMNS,
            [(24, 30), (.6, .9), (.2, .5), (.15, .35), (100, 180), (5, 9), (50, 70), (.4, .7), (.4, .7)],
            strict=True,
        )
    )  # fmt: skip
    for published in SETS.values():
        assert len(published.lines) == 12
        figures = np.array(
            [[float(line.figures.get(name, "nan")) for name in COLUMNS] for line in published.lines]
        )
        low, high = np.array(list(ranges.values())).T
        assert ((figures > low) & (figures < high) | np.isnan(figures)).all()
        assert np.isnan(figures).sum() == 1  # CCSR's paper has no MANIQA
