"""A small fixed part of every campaign, and the campaigns' own bounds. All of it: scripts/fuzz.sh"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from restoration.tests.fuzz import node_inputs, run
from restoration.tests.fuzz.campaign import Campaign, Fault, checked_sentence, run_case
from restoration.tests.fuzz.mutations import mutated, mutated_json
from restoration.tests.tools.folder.fake_comfy import WORKFLOW
from restoration.tools.comfyui import client

SEED = 0
CASES = {"nodes": 80, "prompts": 100, "loaders": 25}
PURE = {"weights": 20, "pictures": 4, "workflows": 10, "manifests": 8}


def held(campaign: Campaign, count: int, folder: Path) -> None:
    results = [run_case(campaign, SEED, number, folder, 20.0) for number in range(count)]
    faults = [f"case {each.number}: {each.text}" for each in results if each.kind == "fault"]
    assert not faults, "\n".join(faults[:5])
    assert any(each.kind == "sentence" for each in results), "no case was refused: all too tame"


@pytest.fixture
def close() -> Iterator[list[Campaign]]:
    made: list[Campaign] = []
    yield made
    for campaign in made:
        campaign.close()


@pytest.mark.parametrize("name", PURE)
def test_cases_end_well_or_in_a_sentence(name, tmp_path, monkeypatch, close) -> None:
    # The server that only pretends has no websocket, and looking for one takes longer than its work.
    monkeypatch.setattr(client, "_events", lambda *address: contextlib.nullcontext())
    close.append(run.campaigns()[name]())
    held(close[0], PURE[name], tmp_path)


@pytest.mark.host
@pytest.mark.parametrize("name", CASES)
def test_cases_in_the_host_end_well_or_in_a_sentence(comfy, name, tmp_path, close) -> None:
    close.append(run.campaigns()[name]())
    held(close[0], CASES[name], tmp_path)


@pytest.mark.host
def test_every_node_takes_its_own_valid_inputs(comfy) -> None:
    """Or the campaign would only ever see what lies before a node's first check."""
    campaign = node_inputs.NodeInputs()
    without = campaign.warm_up()
    assert set(without) <= {"RestorationFaceCrop", "HighLevelPrompt"}
    assert len(campaign.nodes) > 20, f"left out: {campaign.left_out}"


def test_a_case_is_drawn_from_its_number_alone() -> None:
    for draw in (
        lambda rng: mutated(rng, bytes(500), b"other"),
        lambda rng: mutated_json(rng, WORKFLOW),
    ):
        assert draw(random.Random("a 1")) == draw(random.Random("a 1"))
        assert draw(random.Random("a 1")) != draw(random.Random("a 2"))


class Toy(Campaign):
    name: ClassVar[str] = "toy"

    def case(self, rng: random.Random, folder: Path) -> str:
        (folder / "hostile").write_bytes(b"x")
        match folder.name.rpartition("-")[2]:
            case "0":
                return ""
            case "1":
                return checked_sentence("The file is damaged: take another.")
            case "2":
                raise KeyError("weights")
            case "3":
                while True:
                    pass
            case _:
                raise Fault("touched")


def test_what_may_come_of_a_case(tmp_path) -> None:
    found = [run_case(Toy(), 5, number, tmp_path, 0.2) for number in range(5)]
    assert [each.kind for each in found] == ["done", "sentence", "fault", "fault", "fault"]
    assert "KeyError: 'weights'" in found[2].text and "no end within 0.2 s" in found[3].text
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["toy-5-2", "toy-5-3", "toy-5-4"], "hostile files stay where a fault was"


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):\n  File",
        "the key \x1b[2J is wrong here",
        "x" * 10_000,
        "'int'",
        "",
    ],
)
def test_what_is_no_sentence(text) -> None:
    with pytest.raises(Fault):
        checked_sentence(text)


def test_the_command_counts_and_names_what_reproduces_a_fault(
    tmp_path, capsys, monkeypatch
) -> None:
    """With a campaign whose third case takes its process with it."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, os, sys\n"
        "first = int(sys.argv[sys.argv.index('--first') + 1])\n"
        "for n in range(first, 5):\n"
        "    print(json.dumps({'start': n}), flush=True)\n"
        "    if n == 2: os._exit(9)\n"
        "    kind = 'sentence' if n else 'done'\n"
        "    print(json.dumps({'number': n, 'kind': kind, 'text': ''}), flush=True)\n"
    )
    monkeypatch.setattr(run, "__file__", str(script))
    code = run.main(["--campaign", "weights", "--seconds", "30", "--keep", str(tmp_path / "keep")])
    said = capsys.readouterr().out
    assert code == 1
    assert "FAULT weights case 2" in said and "exit code 9" in said
    assert "again: bash scripts/fuzz.sh --campaign weights --seed 0 --case 2" in said
    assert "weights         5       1          3       1" in said
    assert f"Hostile files of the faults: {tmp_path / 'keep'}" in said


def test_an_unknown_campaign_is_refused(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main(["--campaign", "nothing"])
    assert "there are nodes, prompts, weights" in capsys.readouterr().err
    assert {*PURE, *CASES} == set(run.campaigns()), "a campaign without its part in the suite"
