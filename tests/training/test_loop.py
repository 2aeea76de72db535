from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType
from safetensors import safe_open
from safetensors.torch import load_file

from restoration.tests.training.toy import ToyPart, ToyPictures, run_toy, toy_config
from restoration.training import stopping
from restoration.training.config import read_toml
from restoration.training.errors import TrainingError
from restoration.training.loop import Trainer
from restoration.training.run_folder import RunFolder
from restoration.training.sharded import check_sharding

ROOT = Path(__file__).parents[2]


def steps(folder: Path, kind: str = "checkpoints") -> list[int]:
    return RunFolder(folder).steps(kind)


def losses(folder: Path) -> list[tuple[str, str]]:
    with open(folder / "log.csv", newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def same(one, other, tolerance: float = 0.0) -> None:
    for name, parameter in one.trained().items():
        torch.testing.assert_close(parameter, other.trained()[name], rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, part) of a run of four steps that nothing disturbs."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, run_toy(toy_config(folder))


def test_a_run_leaves_its_configuration_log_checkpoints_and_export(whole) -> None:
    folder, part = whole
    assert read_toml(folder / "config.toml")["optimizer"]["lr"] == 1e-2
    assert [step for step, _ in losses(folder)] == ["1", "2", "3", "4"]
    assert steps(folder) == [2, 4]
    assert steps(folder, "export") == [4]
    file = folder / "export/00000004/toy.safetensors"
    assert torch.equal(load_file(file)["last.weight"], part.last.weight)
    with safe_open(file, "pt") as head:
        assert head.metadata()["method"] == "toy" and head.metadata()["base_sha256"] == "abc"


def test_a_run_that_went_on_equals_one_without_a_break_bit_for_bit(whole, tmp_path) -> None:
    folder, part = whole
    run_toy(toy_config(tmp_path, run={"steps": 3}))
    again = run_toy(toy_config(tmp_path), resume="2")
    same(part, again)
    assert losses(tmp_path) == losses(folder)


def test_accumulation_changes_nothing(whole, tmp_path) -> None:
    folder, part = whole
    same(part, run_toy(toy_config(tmp_path, run={"at_once": 1})), 1e-6)
    for (_, one), (_, other) in zip(losses(folder), losses(tmp_path), strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-5)


def test_half_precision_trains_weights_in_float32(whole, tmp_path) -> None:
    part = run_toy(toy_config(tmp_path, run={"precision": "bf16"}))
    assert part.last.weight.dtype == torch.float32
    found, exact = ([float(loss) for _, loss in losses(place)] for place in (tmp_path, whole[0]))
    assert found != exact and found == pytest.approx(exact, rel=0.02)


def test_a_precision_that_is_not_there_is_a_sentence(tmp_path, monkeypatch) -> None:
    def refused(**_):
        raise ValueError("bf16 mixed precision requires a supported device.")

    monkeypatch.setattr("accelerate.Accelerator", refused)
    with pytest.raises(TrainingError, match="precision = 'bf16': bf16 mixed precision requires"):
        run_toy(toy_config(tmp_path, run={"precision": "bf16"}))


def test_only_the_last_checkpoints_are_kept(tmp_path) -> None:
    run_toy(toy_config(tmp_path, save={"every": 1, "keep": 2}))
    assert steps(tmp_path) == [3, 4]


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_batch(tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"loss of step 4 is not .* 12\.png, 13\.png"):
        run_toy(toy_config(tmp_path), ToyPictures(bad=13))
    assert steps(tmp_path) == [2]


def test_ctrl_c_finishes_the_step_and_saves_it(tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    before = signal.getsignal(signal.SIGINT)
    run_toy(toy_config(tmp_path), ToyPictures(interrupt=9))
    assert steps(tmp_path) == [2, 3]
    assert "Stopped after step 3, which is saved" in caplog.text
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once_but_not_the_launchers_echo(monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    with stopping.StopRequest() as stop:
        for clock[0] in (10.0, 10.5, 12.0):
            signal.raise_signal(signal.SIGINT)
        assert stop
        clock[0] = 15.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_processes_that_would_train_apart_are_refused(tmp_path, monkeypatch) -> None:
    """As accelerate takes them where there is no card and nobody has told it to use the CPU."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="they would train apart"):
        run_toy(toy_config(tmp_path), cpu=False)


def test_a_new_run_never_begins_in_the_folder_of_another(whole) -> None:
    with pytest.raises(TrainingError, match="--resume latest"):
        run_toy(toy_config(whole[0]))


def test_going_on_with_another_configuration_is_refused(whole) -> None:
    config = toy_config(whole[0], optimizer={"lr": 2e-2}, run={"steps": 9})
    with pytest.raises(TrainingError, match=r"optimizer\.lr: 0\.01 there, 0\.02 here"):
        run_toy(config, resume="latest")
    with pytest.raises(TrainingError, match="no checkpoint '5': there are 2, 4"):
        run_toy(config, resume="5")


def test_a_full_disk_is_a_sentence_and_leaves_the_checkpoints(tmp_path) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no limits of files")
    run_toy(toy_config(tmp_path, run={"steps": 2}))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"step 4 could not be .*of step 2\. Make room"):
            run_toy(toy_config(tmp_path), resume="latest")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000002"]


def test_a_batch_that_cannot_be_shared_is_a_sentence(tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"run\.batch = 4 cannot be shared"):
        run_toy(toy_config(tmp_path, run={"at_once": 3}))


@pytest.mark.parametrize(("split_by", "words"), [("FSDP", "FSDP 1"), ("DEEPSPEED", "ZeRO 3")])
def test_what_splits_so_that_no_file_can_be_written_is_refused(split_by: str, words: str) -> None:
    accelerator = SimpleNamespace(
        distributed_type=DistributedType[split_by],
        is_fsdp2=False,
        state=SimpleNamespace(deepspeed_plugin=None),
    )
    if split_by == "DEEPSPEED":
        accelerator.state.deepspeed_plugin = SimpleNamespace(zero_stage=2)
        check_sharding(accelerator)
        accelerator.state.deepspeed_plugin.zero_stage = 3
    with pytest.raises(TrainingError, match=rf"by {words}, .*fsdp_version: 2"):
        check_sharding(accelerator)


def test_a_split_network_is_neither_averaged_nor_sampled(tmp_path) -> None:
    opened = SimpleNamespace(part=ToyPart(), restore=print)
    split = SimpleNamespace(is_fsdp2=True, num_processes=1, process_index=0)
    for section in ({"optimizer": {"average": 0.9}}, {"samples": {"every": 1}}):
        with pytest.raises(TrainingError, match=r"set optimizer\.average and samples\.every to 0"):
            Trainer(toy_config(tmp_path, **section), opened, split)


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> Path:
    """What `processes.py` leaves: two processes on one batch, and one that is killed while it
    saves."""
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("processes.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True, timeout=120)
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
@pytest.mark.parametrize("how", ["two", "sharded"])
def test_two_processes_equal_one_with_the_doubled_batch(whole, processes, how: str) -> None:
    """Each with the whole network, or with a part of it, which also went on from a checkpoint."""
    folder, part = whole
    weights = load_file(processes / how / "export/00000004/toy.safetensors")
    for name, parameter in part.trained().items():
        torch.testing.assert_close(weights[name], parameter.detach(), rtol=0, atol=1e-6)
    for (_, one), (_, two) in zip(losses(folder), losses(processes / how), strict=True):
        assert float(one) == pytest.approx(float(two), rel=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
def test_a_run_killed_while_it_saves_keeps_the_checkpoint_before(whole, processes) -> None:
    killed = processes / "killed"
    assert steps(killed) == [2]
    half = killed / "checkpoints/.00000004.part"
    assert (half / "trained.safetensors").is_file(), "it was killed too early"
    again = run_toy(toy_config(killed), resume="latest")
    same(whole[1], again, 1e-6)  # it was killed in a process of one thread
    assert steps(killed) == [2, 4] and not half.exists()


@pytest.mark.slow  # a Python of its own, with torch
def test_the_command_works_under_any_folder_name(tmp_path) -> None:
    (tmp_path / "any.name of-a pack").symlink_to(ROOT)
    (tmp_path / "run.toml").write_text('authors = "pasd"\n[data]\npictures = "none"\n', "utf-8")
    command = [tmp_path / "any.name of-a pack" / "training", "data", "check"]
    done = subprocess.run(
        [sys.executable, *map(str, command), "--config", "run.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "neither a folder nor a tar shard" in done.stderr
