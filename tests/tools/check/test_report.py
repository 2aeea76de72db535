"""The report: its verdict, its two forms, and nothing personal in either."""

from __future__ import annotations

import json
from pathlib import Path, PureWindowsPath

import pytest

from restoration.tools.check.golden import Outcome
from restoration.tools.check.report import Impersonal, Report, write
from restoration.tools.check.weights import Weights
from restoration.tools.check.workflows import Ran

GOOD = (
    Outcome("a/b", "float32", 1e-6, 1e-4),
    Weights("v2.pth", "restoration", "DiffBIR v2", "0" * 64, "same"),
    Ran("quick_restore", "passed", seconds=2.5, peak=3 << 30, size="256x256"),
)
BAD = (
    Outcome("a/b", "float16", float("inf"), 1e-4),
    Weights("v2.pth", "restoration", "", "0" * 64, "differs", "v2.pth is not the published file"),
    Ran("quick_restore", "failed", "its picture has values that are not finite"),
)
UNTRIED = Ran("pasd_upscale", "not run", "2 of its files are not there")


def report(case=GOOD[0], weights=GOOD[1], ran=GOOD[2], problems=()) -> Report:
    facts = {"python": "3.12", "memory": 8 << 30, "packages": {"torch": "2.9"}, "driver": ""}
    return Report(facts, [case], [weights], [ran, UNTRIED], list(problems))


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        (report(), True),
        (report(case=BAD[0]), False),
        (report(weights=BAD[1]), False),
        (report(ran=BAD[2]), False),
        (report(problems=["ComfyUI did not start."]), False),
    ],
)
def test_one_wrong_thing_is_the_verdict_and_both_files_say_it(tmp_path, found, passed) -> None:
    text, data = write(found, tmp_path / "check", {})
    said = json.loads(data.read_text("utf-8"))
    assert found.passed is said["passed"] is passed
    lines = text.read_text("utf-8")
    assert lines.startswith(f"# Diffusion Restoration: check {'passed' if passed else 'FAILED'}")
    assert ("**" in lines) is not passed
    for word in ("8,192.0 MiB", "torch | 2.9", "2 of its files are not there", "| float"):
        assert word in lines
    assert "driver" not in lines  # nothing is known of it


@pytest.mark.parametrize("name", ["check", "check.md", "check.json"])
def test_the_name_has_its_endings_once(tmp_path, name: str) -> None:
    written = write(report(), tmp_path / name, {})
    assert [path.name for path in written] == ["check.md", "check.json"]


def test_no_path_of_a_person_is_left(tmp_path) -> None:
    home, models = Path.home(), tmp_path / "models"
    wrong = f"{models}/v2.pth is empty; {home}/x and {models / 'a' / 'b'} too"
    found = report(weights=Weights("v2.pth", "restoration", "", "", "unknown", wrong))
    for path in write(found, tmp_path / "out", {models: "<models>"}):
        text = path.read_text("utf-8")
        assert str(home) not in text.replace(str(tmp_path), "") and str(tmp_path) not in text
        assert "<models>/v2.pth is empty" in text and "<home>/x" in text


def test_paths_of_windows_are_hidden_as_json_writes_them_too() -> None:
    class Windows(PureWindowsPath):
        def resolve(self):
            return self

    hidden = Impersonal({Windows(r"C:\Users\Ann"): "<home>", Windows(r"C:\Users\Ann\c"): "<c>"})
    text = r"C:\Users\Ann\x, C:/Users/Ann/c/y, " + json.dumps(r"C:\Users\Ann\c\z")
    assert hidden(text) == r'<home>\x, <c>/y, "<c>\\z"'
    assert Impersonal({Path("/"): "<root>"})("a/b") == "a/b"


def test_what_a_file_is_called_breaks_no_table(tmp_path) -> None:
    odd = Weights("a|b\n\x1b[31m.pth", "restoration", "x", "", "unknown")
    text, _ = write(report(weights=odd), tmp_path / "check", {})
    (line,) = (each for each in text.read_text("utf-8").splitlines() if "[31m" in each)
    assert line.startswith("| restoration/a\\|b \\x1b[31m.pth |")
