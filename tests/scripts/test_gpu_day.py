"""The day on a card: parts with limits of time, going on, the report; and the whole of it, tiny."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from restoration.scripts import gpu_day

ROOT = Path(__file__).parents[2]


def options(folder: Path, dry: bool = False, **more: object) -> argparse.Namespace:
    given = {"folder": folder, "cpu_dry_run": dry, "host": folder, "wheels": folder / "wheels"}
    return argparse.Namespace(**{**given, "start_from": folder / "w.safetensors", **more})


def python(code: str, minutes: float = 1.0) -> gpu_day.Part:
    return gpu_day.Part("part", [sys.executable, "-c", code], minutes)


SLOW = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(0)))
print("on it", flush=True)
time.sleep(60)
"""


def test_a_part_that_takes_too_long_is_stopped_and_goes_on_next_time(tmp_path) -> None:
    slow = python(SLOW, minutes=0.02)
    results = gpu_day.Results(tmp_path)
    results.put("part", gpu_day.run(slow, options(tmp_path), None))
    assert results.parts["part"]["stopped"] and not gpu_day.Results(tmp_path).done("part")
    results.put("part", gpu_day.run(python("exit(3)"), options(tmp_path), None))
    again = gpu_day.Results(tmp_path)
    assert again.done("part") and again.parts["part"]["exit code"] == 3
    assert (tmp_path / "part.log").read_text() == "on it\nsaved\n"


def test_parts_take_the_card_only_where_there_is_one(tmp_path) -> None:
    for dry in (True, False):
        made = {part.name: part for part in gpu_day.parts(options(tmp_path, dry))}
        assert list(made) == ["check", "bench", "tests", "pictures"]
        assert ("--cpu" in made["check"].command) is ("--dry" in made["bench"].command) is dry
        assert (("RESTORATION_TEST_DEVICE", "card") in made["tests"].environ) is not dry
    assert sum(part.minutes for part in made.values()) <= 9  # the rest of ten is for training


def test_training_starts_from_the_given_weights_and_goes_on_from_its_checkpoint(tmp_path) -> None:
    from restoration.training.commands import command_parser, read_config

    for dry in (True, False):
        part = gpu_day.training(options(tmp_path, dry), 2.5)
        known = command_parser().parse_args(list(part.command[2:]))
        config = read_config(known.config, known.settings, known.part)
        assert part.minutes == 2.5 and known.resume == ("" if dry else "latest")
        assert config.model.start_from == str(tmp_path / "w.safetensors")
        assert config.run.folder == str(tmp_path / "light_model")
        assert config.run.batch == (1 if dry else 32)
        (tmp_path / "light_model" / "checkpoints" / "00000200").mkdir(parents=True, exist_ok=True)


def test_what_is_lacking_comes_from_the_wheels_and_nothing_from_elsewhere(
    tmp_path, monkeypatch
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "not_there_at_all-1.0-py3-none-any.whl").write_bytes(b"")
    monkeypatch.setattr(gpu_day, "NEEDED", {"json": "json", "not_there": "not-there-at-all"})
    asked = []

    def pip(words: list[str], check: bool) -> None:
        target = Path(words[words.index("--target") + 1])
        assert check and not target.exists()
        target.mkdir()
        asked.append(words)
        if len(asked) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(gpu_day.subprocess, "run", pip)
    with pytest.raises(KeyboardInterrupt):
        gpu_day.install(options(tmp_path))
    for _ in range(2):  # what is half there is not taken for whole, and what is whole is kept
        assert gpu_day.install(options(tmp_path)) == tmp_path / "packages"
    assert (tmp_path / "packages").is_dir() and len(asked) == 2
    words = asked[0]
    assert words[-1] == "not-there-at-all" and "--no-index" in words and "json" not in words
    monkeypatch.setattr(gpu_day, "NEEDED", {"json": "json"})
    assert gpu_day.install(options(tmp_path / "other")) is None


@pytest.fixture
def day(tmp_path, monkeypatch):
    """A day of parts that only write a line, and what they have written so far; its exit code."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "main.py").touch()
    told = tmp_path / "told"

    def part(name: str, code: str, minutes: float = 1.0) -> gpu_day.Part:
        write = f"import os, sys, signal, time; open({str(told)!r}, 'a').write({name!r}); {code}"
        return gpu_day.Part(name, [sys.executable, "-c", write], minutes)

    def run(ends: dict[str, str], minutes: float = 10) -> tuple[int, str]:
        made = {name: part(name, code) for name, code in ends.items()}
        last = made.pop("t", part("t", ""))
        monkeypatch.setattr(gpu_day, "parts", lambda options: iter(made.values()))
        monkeypatch.setattr(gpu_day, "training", lambda options, minutes: last)
        words = ["gpu_day", str(tmp_path / "out"), "--host", str(tmp_path / "host")]
        monkeypatch.setattr(sys, "argv", [*words, "--minutes", str(minutes)])
        code = gpu_day.main()
        return code, told.read_text() if told.exists() else ""

    monkeypatch.setattr(gpu_day, "NEEDED", {})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    yield run
    signal.signal(signal.SIGINT, before)


def test_a_day_that_goes_on_repeats_nothing_that_is_done_and_loses_nothing(day, tmp_path) -> None:
    interrupt = "os.kill(os.getppid(), signal.SIGINT); time.sleep(10)"
    with pytest.raises(KeyboardInterrupt):
        day({"a": "", "b": "sys.exit(3)", "c": interrupt})
    ended = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {name: part["exit code"] for name, part in ended.items()} == {"a": 0, "b": 3}
    assert day({"a": "", "b": "", "c": ""}) == (1, "abcct"), "a failure is done, and told again"
    ended = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [*ended] == ["a", "b", "c", "training"]
    assert day({"a": "", "b": "", "c": ""}) == (1, "abcct")
    assert "| b | 0 | exit code 3 |" in (tmp_path / "out" / "results.md").read_text()


def test_a_day_whose_time_is_over_begins_nothing_and_leaves_training_its_time(day) -> None:
    assert day({"a": ""}, minutes=0) == (0, "")
    assert day({"a": ""}, minutes=0.9) == (0, "a"), "too little is left to train"
    assert day({"a": ""}, minutes=1.1) == (0, "at")


def test_the_report_has_every_figure_and_every_failure(tmp_path) -> None:
    results = gpu_day.Results(tmp_path)
    results.put("bench", {"exit code": 0, "seconds": 61.2, "stopped": True})
    figures = {"plain, 64x64": {"ms": 1.23456}, "pasd": {"failed": "OutOfMemory"}, "x": {}}
    (tmp_path / "bench.json").write_text(json.dumps(figures))
    (tmp_path / "training.log").write_text("step 50, 32 dB\n")
    (tmp_path / "check.md").write_text("# check passed\n")
    said = gpu_day.report(tmp_path, results)
    for line in (
        "| bench | 61 | stopped for time |",
        "| plain, 64x64 | ms 1.235 |",
        "| pasd | failed OutOfMemory |",
        "step 50, 32 dB",
        "## check passed",
    ):
        assert line in said
    assert "| x |" not in said


@pytest.mark.slow  # four processes that import torch, two of them ComfyUI
@pytest.mark.server
def test_a_dry_run_does_everything_and_the_second_one_nothing(tmp_path) -> None:
    from restoration.tools.comfyui.find import find_host, find_newer_host

    host = find_newer_host() or find_host()
    assert host is not None
    command = ["bash", str(ROOT / "scripts" / "gpu_day.sh"), str(tmp_path), "--cpu-dry-run"]
    environ = {**os.environ, "GPU_DAY_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    for first in (True, False):
        done = subprocess.run(
            [*command, "--host", str(host.path)], env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("done before" in done.stdout) is not first
    ended = json.loads((tmp_path / "results.json").read_text())
    assert set(ended) == {"check", "bench", "tests", "pictures", "training"}
    assert not [n for n, part in ended.items() if part["exit code"] or part["stopped"]]
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert not [key for key, found in figures.items() if "failed" in found]
    assert list((tmp_path / "light_model" / "export").glob("*/weights.safetensors"))
    said = (tmp_path / "results.md").read_text()
    assert "half_precision" in said and "check passed" in said


def test_a_folder_without_comfyui_is_told(tmp_path, monkeypatch, capsys) -> None:
    words = ["gpu_day", str(tmp_path / "out"), "--host", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        gpu_day.main()
    assert "holds no ComfyUI" in capsys.readouterr().err and not (tmp_path / "out").exists()
