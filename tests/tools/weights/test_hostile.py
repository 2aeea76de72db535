"""Files made to mislead, stall or fill the memory: a sentence each, in bounded time and memory."""

from __future__ import annotations

import collections
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from restoration.common.diagnosis import weights_problem
from restoration.common.state_dict import CheckpointError, unwrapped
from restoration.tests.tools.weights import hostile, tiny
from restoration.tools.commands import main
from restoration.tools.weights.convert import convert
from restoration.tools.weights.files import read_weights
from restoration.tools.weights.installed import installed, model_folders
from restoration.tools.weights.known import identify

ROOT = Path(__file__).parent.parent.parent.parent
CASES = ROOT / "tests" / "tools" / "cases" / "weights"
HARMLESS = {"a list of itself", "a wrapping of itself", "a number alone", "a tensor alone"}
"""They can be read: nothing is in them."""
BOUNDED = """
import os, resource, sys, time
from pathlib import Path
from tools.__main__ import register_pack
register_pack()
from restoration.common.state_dict import CheckpointError, unwrapped
from restoration.tools.weights.files import read_weights
os.chdir(sys.argv[1])
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (200 << 20),) * 2)
for path in sorted(Path(".").iterdir()):
    begun = time.process_time()
    try:
        said = f"read {len(unwrapped(read_weights(path).contents))}"
    except CheckpointError as error:
        said = str(error)
    print(f"{time.process_time() - begun:.2f}", path, said, sep="\\t", flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the limit is Linux's")
def test_every_hostile_file_gets_a_sentence_in_two_seconds_and_200_mib(tmp_path) -> None:
    paths = hostile.hostile_files(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == len(paths), done.stderr[-2000:]
    for seconds, name, said in lines:
        assert float(seconds) < 3, name  # on a busy machine
        if not any(name.startswith(f"{each}.pth") for each in HARMLESS):
            assert said.startswith(name) and said.endswith(".") and len(said) < 600, (name, said)
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in paths)  # nothing ran


@pytest.mark.parametrize("name", ["claims_32_tib.pth", "nested_header.safetensors"])
def test_a_file_that_blows_up_its_reader_is_one_sentence_in_every_command(
    tmp_path, capsys, name: str
) -> None:
    comfyui = tmp_path / "ComfyUI"
    folder = comfyui / "models" / "restoration"
    folder.mkdir(parents=True)
    (comfyui / "main.py").touch()
    path = folder / name
    path.write_bytes((CASES / name).read_bytes())
    torch.save(tiny.dape(), folder / "DAPE.pth")
    for command in ("inspect", "convert"):
        assert main([command, str(path)]) == 1
        said = "".join(capsys.readouterr())
        assert said.count(f"{name} is damaged") == 1 and "Traceback" not in said
    assert main(["list", "--comfyui", str(comfyui)]) == 0
    said = capsys.readouterr().out
    assert f"  [!] {name}\n        {path}\n        {name} is damaged (" in said
    assert "  [x] DAPE.pth" in said or "  [!] DAPE.pth" in said
    problems = [row.problem for row in installed(model_folders(comfyui)) if name in row.problem]
    assert len(problems) == 1


@pytest.mark.parametrize("name", hostile.small_files())
def test_a_damaged_file_is_read_or_gets_a_sentence(tmp_path, name: str) -> None:
    """Cut off anywhere, or with any bytes changed; the seed is fixed."""
    generator, data = random.Random(name), hostile.small_files()[name]
    path, sentences = tmp_path / name, 0
    for number, damaged in enumerate(hostile.damaged(data, generator, 400)):
        path.write_bytes(damaged)
        begun = time.process_time()
        try:
            identify(read_weights(path).contents, name)
        except CheckpointError as error:
            sentences += 1
            assert str(error).startswith(name) and str(error).isprintable(), number
        assert time.process_time() - begun < 1, number
    assert sentences == 400  # nothing of the pack's is in them


@pytest.mark.parametrize("kind", ["diffbir", "pasd_unet", "pasd_control", "seesr_unet", "dape"])
def test_weights_of_any_shape_are_identified_or_get_a_sentence(monkeypatch, kind: str) -> None:
    tiny.use_tiny_sizes(monkeypatch)
    generator, whole = random.Random(kind), getattr(tiny, kind)()
    for _ in range(60):
        weights = dict(whole)
        for key in generator.sample(sorted(weights), generator.choice((1, 3, 12))):
            shape = generator.choice(((), (0,), (1,), (2, 3), (1 << 20, 0), (1, 1, 1, 1, 1)))
            weights[key] = torch.empty(shape)
            if generator.random() < 0.3:
                del weights[key]
        try:
            identify(weights, "x.pth")
        except CheckpointError as error:
            assert str(error).startswith("x.pth")


# Text that leaves

CONTROL = "\x1b[2J\x1b]0;title\x07\x9b\u202e\r\n"


def test_control_characters_of_keys_and_names_are_printed_escaped(tmp_path, capsys) -> None:
    name = "control_characters.safetensors"
    (tmp_path / name).write_bytes((CASES / name).read_bytes())
    weights = tiny.diffbir() | {f"strange{CONTROL}": torch.zeros(1)}
    torch.save(weights, tmp_path / f"v2{CONTROL}.pth")
    for command in (
        ["inspect", "--keys", str(tmp_path)],
        ["convert", *map(str, tmp_path.iterdir())],
    ):
        assert main(command) == 1
        said = "".join(capsys.readouterr())
        assert all(line.isprintable() for line in said.split("\n"))
        assert r"\x1b[2J\x1b]0;title\x07" in said
    assert r"strange\x1b[2J\x1b]0;title\x07\x9b\u202e\r\n" in said or "strange" not in said
    assert main(["inspect", "--json", str(tmp_path)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert f"strange{CONTROL}" in [key for facts in found for key in facts.get("unexpected", ())]


def test_control_characters_in_a_list_are_escaped(tmp_path, capsys) -> None:
    comfyui = tmp_path / f"Comfy{CONTROL}"
    (comfyui / "models" / "restoration").mkdir(parents=True)
    (comfyui / "main.py").touch()
    (comfyui / "models" / "restoration" / f"a{CONTROL}.pth").write_bytes(b"PK")
    assert main(["list", "--comfyui", str(comfyui)]) == 0
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.split("\n")) and r"a\x1b[2J" in said


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_name_that_is_not_utf_8_is_a_sentence_and_printed_escaped(
    tmp_path, capsys, ending: str
) -> None:
    """torch and safetensors open no such file."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/v2\xe9.") + ending)
    try:
        path.write_bytes(hostile.small_files()["new.pth"])
    except OSError:
        pytest.skip("this file system takes no such name")
    assert main(["inspect", str(path)]) == 1
    assert rf"v2\udce9.{ending} has a name that is not UTF-8" in capsys.readouterr().out
    assert main(["inspect", "--json", str(path)]) == 1
    assert json.loads(capsys.readouterr().out)[0]["file"] == str(path)
    assert main(["convert", str(path)]) == 1


def test_a_very_long_key_is_cut(tmp_path) -> None:
    torch.save({"k" * 100_000: torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as error:
        convert([tmp_path / "a.pth"])
    assert len(str(error.value)) < 500


def test_a_name_that_no_disk_takes_is_a_sentence(tmp_path, capsys) -> None:
    name = "a" * 300 + ".pth"
    assert main(["inspect", str(tmp_path / name)]) == 1
    assert "There is no file" in capsys.readouterr().out
    assert main(["convert", str(tmp_path / name)]) == 1
    assert "There is no file" in capsys.readouterr().err


# What is not hostile


@pytest.mark.parametrize("zipped", [True, False])
def test_everything_that_training_saves_beside_weights_is_no_obstacle(tmp_path, zipped) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    shared = torch.randn(8)
    contents = {
        "state_dict": network.state_dict(),
        "optimizer": {"state": {0: {"step": torch.ones(()), "exp_avg": torch.ones(2)}}},
        "parameters": list(network.parameters()),
        "views": [shared[:4], shared[4:].view(2, 2).t(), shared.expand(3, 8)],
        "empty": torch.zeros(0, 3),
        "types": [torch.zeros(2, dtype=kind) for kind in (torch.half, torch.bfloat16, torch.bool)],
        "complex": torch.zeros(2, dtype=torch.complex64),
        "words": {"epoch": 3, 1: 2.5, None: (True, b"bytes"), "size": torch.Size([1, 2])},
        "counts": collections.OrderedDict(a=1),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
    }
    if zipped:
        contents["newest"] = torch.zeros(2, dtype=torch.float8_e4m3fn)  # not in the older form
    path = tmp_path / "a.ckpt"
    torch.save(contents, path, _use_new_zipfile_serialization=zipped)
    assert not weights_problem(path)
    assert unwrapped(read_weights(path).contents).keys() == network.state_dict().keys()


def test_a_list_of_parts_is_no_file_of_weights(tmp_path) -> None:
    """Neither form of it is followed, wherever its entries lead."""
    for contents in ([1], {"weight_map": {"a": "../../x.safetensors"}}):
        path = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
        path.write_text(json.dumps(contents))
        with pytest.raises(CheckpointError, match="holds no weights: it is text"):
            read_weights(path)
        with pytest.raises(CheckpointError, match="holds no diffusion_pytorch_model"):
            read_weights(tmp_path)


def test_parts_that_hold_something_else_are_named(tmp_path) -> None:
    def part(number: int, contents: object, of: int = 2) -> None:
        torch.save(contents, tmp_path / f"pytorch_model-0000{number}-of-0000{of}.bin")

    part(1, {"a": torch.zeros(1)})
    part(2, [1, 2])
    assert read_weights(tmp_path).contents.keys() == {"a"}
    part(2, {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"holds 1 weights of another part .*again \(a\)"):
        read_weights(tmp_path)
    part(3, {"b": torch.zeros(1)}, of=3)
    with pytest.raises(CheckpointError, match="parts of several networks"):
        read_weights(tmp_path)
