"""A folder that still fills."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from restoration.tests.tools.folder.helpers import photo, records
from restoration.tools.folder import watch


@pytest.fixture
def looks(monkeypatch):
    """What happens while a watch waits, look by look; then its user has enough."""

    def set_looks(*acts) -> None:
        todo = iter(acts)

        def sleep(seconds: float) -> None:
            if (act := next(todo, None)) is None:
                raise KeyboardInterrupt
            act()

        monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))

    return set_looks


def test_a_watch_takes_what_comes_once_nobody_writes_it_any_more(
    run, fake, tmp_path, looks
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    whole = photo(tmp_path / "c.png", 90).read_bytes()

    def grow(part: bytes):
        return lambda: (folder / "c.png").write_bytes(part)

    looks(
        lambda: photo(folder / "a.png", 10),
        lambda: photo(folder / "b.png", 20),
        grow(whole[:60]),
        grow(whole),
        lambda: None,
        lambda: photo(folder / "a.png", 30, (30, 20)),
        lambda: None,
        lambda: None,
    )
    assert run(folder, "--watch") == 0
    made = [(Path(r["input"]).name, r["status"]) for r in records(tmp_path / "out")]
    assert made == [(f"{name}.png", "done") for name in "abca"]


def test_a_picture_that_a_watch_may_not_take_does_not_end_it(
    run, fake, tmp_path, looks, capsys
) -> None:
    folder = tmp_path / "in"
    photo(tmp_path / "out" / "a.png", 1)  # nobody's result
    looks(
        lambda: (photo(folder / "a.png", 10), photo(folder / "b.png", 20)),
        *[lambda: None] * 4,
    )
    folder.mkdir()
    assert run(folder, "--watch") == 1
    states = {Path(r["input"]).name: r["status"] for r in records(tmp_path / "out")}
    assert states == {"a.png": "failed", "b.png": "done"}
    assert "no line of manifest.jsonl made" in capsys.readouterr().out
