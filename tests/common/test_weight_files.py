"""Files of weights are whole, new, and leave nothing behind."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, safe_open

from restoration.common.weight_files import write_new

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.zeros(1)}


def names(number: int) -> str:
    return f"net_{number}.safetensors"


def test_a_new_file_takes_the_first_free_name_and_replaces_nothing(tmp_path) -> None:
    (tmp_path / names(0)).write_bytes(b"mine")
    file = write_new(WEIGHTS, tmp_path, names, {"said": "so"})
    assert file == tmp_path / names(1) and (tmp_path / names(0)).read_bytes() == b"mine"
    assert all(torch.equal(load_file(file)[k], v) for k, v in WEIGHTS.items())
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {"said": "so"}
    assert {path.name for path in tmp_path.iterdir()} == {names(0), names(1)}


@pytest.mark.parametrize("place", ["safetensors.torch.save_file", "os.fsync"])
def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch, place) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, full)
    with pytest.raises(OSError, match="No space"):
        write_new(WEIGHTS, tmp_path, names, {})
    assert not list(tmp_path.iterdir())
