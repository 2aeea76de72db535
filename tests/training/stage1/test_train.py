"""Starting from other weights, and a run that is stopped and goes on."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("spandrel", reason="spandrel has the network: pip install spandrel")

from restoration.training.stage1 import train

ROOT = Path(__file__).resolve().parents[3]


def test_blocks_that_the_weights_lack_change_nothing(monkeypatch):
    few = {"width": 8, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
    more = {"width": 8, "enc_blk_nums": [2], "middle_blk_num": 3, "dec_blk_nums": [2]}
    monkeypatch.setattr(train, "NETWORKS", {"few": few, "more": more})
    old, new = train.make_network("few"), train.make_network("more")
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    train.start_from(new, old.state_dict())
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(new(picture), old(picture), atol=1e-6)
    with pytest.raises(ValueError, match=r"another network: 'decoders\.0\.1"):
        train.start_from(old, new.state_dict())
    with pytest.raises(ValueError, match="another network"):
        train.start_from(old, {k: v for k, v in old.state_dict().items() if k != "intro.bias"})


def test_the_new_file_is_known_as_the_bundled_model(tmp_path):
    from safetensors import safe_open

    from restoration.stage1.keys import recognize

    train.export(train.make_network().state_dict(), path := tmp_path / "w.safetensors")
    with safe_open(path, "pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        found = recognize(weights, "w.safetensors", file.metadata())
    assert found is not None and found.version == "bundled" and not found.problem


def test_an_error_of_one_level_ends_the_reward():
    clean = torch.full((1, 3, 8, 8), 0.5)
    values = [train.log_mse(clean + error / 255, clean).item() for error in (0, 1, 10)]
    assert values[1] - values[0] < 0.7 < values[2] - values[1]


PROGRAM = """
import sys
from pathlib import Path
import runpy
runpy.run_path(sys.argv[1] + "/tools/package.py")["register_pack"]()
from restoration.training.stage1 import train
train.CACHE, train.PICTURE = Path(sys.argv[2]), 96
train.NETWORKS = {"tiny": {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}}
train.validation_set = lambda count, workers: {}
sys.argv[1:] = sys.argv[3:]
train.main()
"""
ARGUMENTS = [
    *("--network", "tiny", "--pictures", "2", "--batch", "1", "--patch", "32"),
    *("--threads", "1", "--workers", "0", "--no-compile", "--resume"),
]


@pytest.mark.slow  # two processes that import torch and spandrel
def test_a_run_that_is_told_to_end_keeps_its_state_and_goes_on(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(ROOT), str(tmp_path), *ARGUMENTS]
    output = ["--output", str(tmp_path / "new.safetensors")]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen([*command, "--minutes", "9", *output], stdout=log)
        while "step 50" not in (tmp_path / "log").read_text():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert "--resume goes on" in (tmp_path / "log").read_text()
    assert not (tmp_path / "new.safetensors").exists()
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    minutes = str(saved["spent"] / 60 + 0.005)
    done = subprocess.run([*command, "--minutes", minutes, *output], capture_output=True, text=True)
    assert f"resumed at step {saved['step']}" in done.stdout, done.stderr
    assert (tmp_path / "new.safetensors").exists()
