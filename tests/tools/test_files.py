"""Files are written all or nothing, and by one process at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from restoration.tools.files import replacing
from restoration.tools.locking import HeldError, locked

HOLDER = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("locking", sys.argv[1])
locking = importlib.util.module_from_spec(spec)
spec.loader.exec_module(locking)
with locking.locked(locking.Path(sys.argv[2]), "the first one"):
    print("held", flush=True)
    time.sleep(60)
"""
LOCKING = Path(__file__).parent.parent.parent / "tools" / "locking.py"


@pytest.mark.skipif(os.name == "nt", reason="its names are counted in other units")
@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "a.png"])
def test_a_name_of_the_full_length_can_be_written(tmp_path, name) -> None:
    with replacing(tmp_path / name) as part:
        part.write_bytes(b"new")
        assert not (tmp_path / name).exists()
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"new"


def test_a_name_that_is_not_utf8_can_be_written(tmp_path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system allows UTF-8 only")
    with replacing(path) as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new"


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_bytes(b"half")
        1 / 0  # noqa: B018
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_behind_is_replaced(tmp_path) -> None:
    path = tmp_path / "a.png"
    with replacing(path) as part:
        pass
    part.write_bytes(b"left behind by a killed run")
    with replacing(path) as again:
        again.write_bytes(b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_mix(tmp_path) -> None:
    path = tmp_path / "a.png"
    with replacing(path) as part:
        part.write_bytes(b"first")
        with pytest.raises(OSError, match="is being written by another process"):  # noqa: SIM117
            with replacing(path):
                pass
        assert part.read_bytes() == b"first"
    assert path.read_bytes() == b"first"


def test_a_lock_names_its_holder_and_is_gone_afterwards(tmp_path) -> None:
    lock = tmp_path / ".lock"
    with locked(lock, "the first one"):
        with pytest.raises(HeldError, match="the first one"), locked(lock, "the second"):
            pass
        assert lock.exists()
    assert not lock.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals of POSIX")
def test_the_lock_of_a_killed_process_is_free(tmp_path) -> None:
    lock = tmp_path / ".lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(LOCKING), str(lock)], stdout=subprocess.PIPE
    )
    assert process.stdout and process.stdout.readline().strip() == b"held"
    with pytest.raises(HeldError, match="the first one"), locked(lock, "the second"):
        pass
    process.kill()
    process.communicate()
    assert lock.exists()
    with locked(lock, "the second"):
        assert lock.read_bytes() == b"the second"
