"""What the test command runs where, and that it says what it leaves out."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from restoration.scripts import run_tests
from restoration.scripts.run_tests import Row
from restoration.tests.mirror import mirrored
from restoration.tools.comfyui.find import Host

OLD, NEW = (Host(Path(version), version, "here") for version in ("0.3.64", "0.18.1"))


@pytest.fixture
def runs(monkeypatch) -> list[tuple[str, str, str, list[str]]]:
    """(tier, host, marks, arguments) of every pytest process, none of which is started."""
    made: list[tuple[str, str, str, list[str]]] = []

    def run(tier, where, marks, arguments, **_: str) -> Row:
        made.append((tier, where, marks, list(arguments)))
        return Row(tier, where, passed=1)

    monkeypatch.setattr(run_tests, "pytest", run)
    monkeypatch.setattr(run_tests, "lint", lambda tier, *_: Row(tier, "", verdict="clean"))
    monkeypatch.setattr(run_tests, "find_hosts", lambda: [OLD, NEW])
    monkeypatch.setattr(run_tests, "find_chromium", lambda: "chromium")
    monkeypatch.setattr(run_tests, "find_frontend", lambda _: "frontend")
    return made


def command(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["run_tests.py", *arguments])
    return run_tests.main()


def test_the_older_host_runs_one_test_per_mechanism_and_says_so(runs, monkeypatch, capsys) -> None:
    assert command(monkeypatch) == 0
    marks = {(tier, where): marks for tier, where, marks, _ in runs}
    assert marks["host", "ComfyUI 0.3.64"] == "host and both_hosts"
    assert marks["browser", "ComfyUI 0.3.64"] == "browser and both_hosts"
    assert marks["host", "ComfyUI 0.18.1"] == "host"
    shown = capsys.readouterr().out
    assert "one test per mechanism and the golden cases; all of them on 0.18.1" in shown


def test_all_means_every_test_on_every_host(runs, monkeypatch, capsys) -> None:
    assert command(monkeypatch, "--all") == 0
    assert not any("both_hosts" in marks for _, _, marks, _ in runs)
    assert all("--slow" in arguments for *_, arguments in runs)
    assert "one test per mechanism" not in capsys.readouterr().out


def test_a_single_host_runs_everything(runs, monkeypatch) -> None:
    monkeypatch.setattr(run_tests, "find_hosts", lambda: [OLD])
    assert command(monkeypatch) == 0
    assert not any("both_hosts" in marks for _, _, marks, _ in runs)


def test_what_changed_picks_the_tests(runs, monkeypatch, capsys) -> None:
    files = ["common/tiling.py", "LICENSE"]
    monkeypatch.setattr(run_tests, "changed_files", lambda revision: files)
    assert command(monkeypatch, "--changed", "main") == 0
    tests = mirrored(files, run_tests.ROOT)["common/tiling.py"]
    assert tests and all(set(tests) <= set(arguments) for *_, arguments in runs)
    shown = capsys.readouterr().out
    assert "changed since main" in shown and "LICENSE: no test mirrors or imports it" in shown


def test_nothing_changed_runs_nothing(runs, monkeypatch) -> None:
    monkeypatch.setattr(run_tests, "changed_files", lambda revision: [])
    assert command(monkeypatch, "--changed") == 0
    assert not runs


def test_an_unknown_revision_is_said(runs, monkeypatch, capsys, tmp_path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    assert command(monkeypatch, "--changed", "no-such-revision") == 2
    assert "no-such-revision" in capsys.readouterr().err and not runs


def test_changed_files_are_edited_added_and_deleted_ones(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")

    def git(*words: str) -> None:
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    for name in ("kept.py", "edited é.py", "gone.py", "committed.py"):
        (tmp_path / name).write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    git("tag", "first")
    (tmp_path / "committed.py").write_text("2")
    git("commit", "-a", "-m", "second")
    (tmp_path / "edited é.py").write_text("2")
    (tmp_path / "new.py").write_text("1")
    (tmp_path / "gone.py").unlink()
    assert run_tests.changed_files("HEAD") == ["edited é.py", "gone.py", "new.py"]
    assert "committed.py" in run_tests.changed_files("first")


def test_slow_tests_are_counted_with_the_way_to_run_them(tmp_path) -> None:
    xml = tmp_path / "result.xml"
    reason = "slow, and not run on every change: `bash scripts/test.sh --all` runs it"
    xml.write_text(
        f'<testsuites><testsuite><testcase name="a"/><testcase name="b"><skipped message="{reason}"/>'
        f"</testcase></testsuite></testsuites>"
    )
    row = run_tests.read_junit("host", "ComfyUI", xml)
    assert "1 passed, 1 skipped" in str(row) and f"skipped 1: {reason}" in str(row)


@pytest.mark.parametrize(("part", "tiers"), [
    ("lint", set()), ("pure", {"pure"}), ("hosts", {"host", "server", "browser"}),
])  # fmt: skip
def test_a_part_runs_alone(runs, monkeypatch, part, tiers) -> None:
    assert command(monkeypatch, "--only", part) == 0
    assert {tier for tier, *_ in runs} == tiers


def test_types_are_checked_beside_the_pure_tests(runs, monkeypatch) -> None:
    begun = threading.Event()

    def pure(*_: object) -> Row:
        begun.set()
        return Row("pure", "")

    def types() -> Row:
        return Row("types", "", verdict="clean" if begun.wait(10) else "FAILED")

    monkeypatch.setattr(run_tests, "pure_row", pure)
    monkeypatch.setattr(run_tests, "types_row", types)
    assert command(monkeypatch) == 0


def test_what_runs_beside_comes_under_its_own_heading(monkeypatch, capfd) -> None:
    def said(word: str) -> None:
        run_tests.run(word, [sys.executable, "-c", f"print('said {word}')"])

    beside = threading.Thread(target=said, args=("two",))
    beside.start()
    beside.join()
    said("one")
    lines = capfd.readouterr().out.split("\n")
    assert lines.index("said two") == lines.index("=== two ===") + 1
    assert lines.index("said one") == lines.index("=== one ===") + 1


def test_processes_share_their_compiled_modules(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run_tests.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    copies = tmp_path / "compiled" / tmp_path.relative_to(tmp_path.anchor) / "temporary"
    kept = copies.parent / "host" / "module.pyc"
    for file in (copies / "copy.pyc", kept):
        file.parent.mkdir(parents=True)
        file.touch()
    environ = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    run_tests.share_bytecode(environ)
    assert "PYTHONDONTWRITEBYTECODE" not in environ, "else every process compiles ComfyUI anew"
    assert kept.is_file() and not copies.exists()
    run_tests.share_bytecode(chosen := {})
    assert chosen == {"PYTHONPYCACHEPREFIX": str(run_tests.BYTECODE)}
