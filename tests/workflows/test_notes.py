"""The Chinese notes of the workflows against the English ones."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from restoration.drawing.build import workflows
from restoration.drawing.notes_zh import NOTES
from restoration.tests.core_chinese import NODES, plain, quoted

ROOT = Path(__file__).parent.parent.parent
SHIPPED = {name: workflow.path for name, workflow in workflows().items()}
LOCALE = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text("utf-8"))
TITLES = {plain(entry["display_name"]): kind for kind, entry in LOCALE.items()}
DIAL = re.compile(r"- (?:(?P<label>[^`]+) )?`(?P<input>\w+)`，(?:两个)?(?:“(?P<node>.+?)”|\*)")


@pytest.fixture(params=sorted(SHIPPED))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def nodes(name: str) -> list[dict]:
    return json.loads(SHIPPED[name].read_text("utf-8"))["nodes"]


def dials(note: str) -> list[str]:
    return [line for line in note.splitlines() if line.startswith("- ")]


def files(note: str) -> list[str]:
    return re.findall(r"\[[^]]+\]\(https://[^)]+\) → `ComfyUI/models/[^`]+` \([^)]+\)", note)


def test_every_workflow_has_one() -> None:
    assert set(NOTES) == set(SHIPPED)


def test_it_tells_of_the_same_files_and_dials(name) -> None:
    (english,) = (
        each["widgets_values"][0] for each in nodes(name) if each.get("title") == "Read me"
    )
    assert files(NOTES[name]) == files(english)
    for pattern in (r"`python -m tools get [^`]+`", r"[\d.]+ [GM]B"):
        assert re.findall(pattern, NOTES[name])[:1] == re.findall(pattern, english)[:1]
    pairs = zip(dials(NOTES[name]), dials(english), strict=True)
    for chinese, other in pairs:
        assert re.findall(r"`(\w+)`", chinese)[0] == re.findall(r"`(\w+)`", other)[0]


def test_it_calls_nodes_and_inputs_as_they_are_shown(name) -> None:
    assert not quoted(NOTES[name]) - set(TITLES) - {plain(each) for each in NODES.values()}
    titles = {each.get("title") for each in nodes(name)}
    assert set(re.findall(r"\*([A-Z][a-z]+(?: [a-z]+)+)\*", NOTES[name])) <= titles
    for line in dials(NOTES[name]):
        found = DIAL.match(line)
        assert found, line
        kind = TITLES.get(plain(found["node"] or ""))
        if kind:
            shown = LOCALE[kind]["inputs"][found["input"]]["name"]
            assert (found["label"] or found["input"]) == shown, line
