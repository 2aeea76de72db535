"""A manifest that has grown long."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from restoration.tests.tools.folder.helpers import photo
from restoration.tools.folder import manifest, plan


@pytest.mark.parametrize("lines", [1000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_long_manifest_is_read_once_and_no_file_is_hashed_twice(
    run, tmp_path, monkeypatch, lines
) -> None:
    """Of many pictures, of which a few are here."""
    photos = [photo(tmp_path / "in" / f"{n}.png", n) for n in range(20)]
    assert run(tmp_path / "in") == 0
    path = tmp_path / "out" / "manifest.jsonl"
    first = path.read_bytes().split(b"\n")[0]
    others = []
    for number in range(lines - 20):
        line = first.replace(b'0.png"', b'else/%d.png"' % number)
        others.append(line.replace(b'"input_sha256": "', b'"input_sha256": "%d' % number))
    path.write_bytes(path.read_bytes() + b"\n".join(others) + b"\n")
    hashed, read = Counter(), Counter()
    real_hash, real_read = manifest.sha256, Path.read_bytes

    def counted(path: Path) -> str:
        hashed[path] += 1
        return real_hash(path)

    def reading(path: Path) -> bytes:
        read[path] += 1
        return real_read(path)

    monkeypatch.setattr(manifest, "sha256", counted)
    monkeypatch.setattr(plan, "sha256", counted)
    monkeypatch.setattr(Path, "read_bytes", reading)
    assert run(tmp_path / "in") == 0
    assert read[path] == 1
    assert set(photos) <= set(hashed) and set(hashed.values()) == {1}
    assert len(hashed) == 40
