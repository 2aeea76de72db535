"""From logits to a prompt, and the published lists."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from restoration.common.state_dict import CheckpointError
from restoration.tagger import tags
from restoration.tagger.config import RAM, TAG_LISTS
from restoration.tagger.tags import TagList, read_tag_list

LIST, THRESHOLDS = TAG_LISTS
NAMES = ("apple", "blur", "cat (animal)", "dog", "off")
THRESHOLD = torch.tensor([0.5, 0.5, 0.8, 0.65, 1.0])


@pytest.fixture
def words() -> TagList:
    return TagList(NAMES, THRESHOLD)


def logits(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).logit()


def test_every_class_has_its_own_threshold_and_must_be_above_it(words) -> None:
    assert words.seen(logits(0.6, 0.6, 0.6, 0.6, 0.6)).tolist() == [True, True, False, False, False]
    exactly_half = torch.zeros(5)
    assert not words.seen(exactly_half).any(), "the threshold itself is not above it"
    assert words.seen(torch.full((5,), 1e-3)).tolist() == [True, True, False, False, False]


def test_a_class_with_threshold_1_never_fires(words) -> None:
    certain = torch.full((5,), 100.0)
    for offset in (0.0, -0.9):
        assert words.seen(certain, offset).tolist() == [True, True, True, True, False]


def test_offset_moves_every_threshold(words) -> None:
    probabilities = logits(0.6, 0.4, 0.75, 0.6, 0.99)
    assert words.text(probabilities) == "apple"
    assert words.text(probabilities, -0.1) == r"apple, cat \(animal\), dog"
    assert words.text(probabilities, -0.2) == r"apple, blur, cat \(animal\), dog"
    assert words.text(probabilities, 0.2) == ""


def test_tags_come_in_the_order_of_the_list(words) -> None:
    assert words.text(logits(0.7, 0.99, 0.1, 0.9, 0.1)) == "apple, blur, dog"
    assert words.text(torch.full((5,), -9.0)) == ""


def test_the_most_probable_stay_in_the_usual_order(words) -> None:
    probabilities = logits(0.7, 0.99, 0.85, 0.9, 0.1)
    assert words.text(probabilities, max_tags=2) == "blur, dog"
    assert words.text(probabilities, max_tags=0) == words.text(probabilities, max_tags=9)


def test_excluded_tags_leave_room_for_others(words) -> None:
    probabilities = logits(0.7, 0.99, 0.85, 0.9, 0.1)
    assert words.text(probabilities, exclude=" Blur ,, CAT (animal)") == "apple, dog"
    assert words.text(probabilities, max_tags=1, exclude="blur") == "dog"
    assert words.text(probabilities, exclude="bl") == words.text(probabilities), "whole names only"
    capital = TagList(("Dog",), torch.tensor([0.5]))
    assert capital.text(logits(0.9)) == "Dog" and capital.text(logits(0.9), exclude="dog") == ""


@pytest.fixture
def published(monkeypatch) -> dict[str, bytes]:
    """Lists of the published length, taken for the published ones."""
    contents = {
        LIST: "\n".join(f"tag {i}" for i in range(RAM.labels)).encode(),
        THRESHOLDS: "\n".join(str(0.45 + i % 7 / 20) for i in range(RAM.labels)).encode(),
    }
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(tags, "TAG_LISTS", checksums)
    return contents


def test_lists_are_read_line_by_line(published) -> None:
    for files in (published, {n: c.replace(b"\n", b"\r\n") for n, c in published.items()}):
        found = read_tag_list(files, "folder")
        assert len(found.names) == len(found.thresholds) == 4585
        assert found.names[7] == "tag 7"
        torch.testing.assert_close(found.thresholds[6], torch.tensor(0.75))


@pytest.mark.parametrize("name", [LIST, THRESHOLDS])
def test_a_missing_list_is_named_with_where_to_get_it(published, name) -> None:
    with pytest.raises(CheckpointError) as error:
        read_tag_list({**published, name: None}, "models/restoration")
    message = str(error.value)
    assert message.startswith(f"The tagger needs the file {name} in models/restoration. ")
    assert "https://github.com/cswry/SeeSR" in message and "ram/data" in message


@pytest.mark.parametrize("name", [LIST, THRESHOLDS])
def test_a_changed_list_is_refused(published, name) -> None:
    changed = published[name].replace(b"4", b"5", 1)
    with pytest.raises(CheckpointError, match=rf"^{name} in here is not the published list"):
        read_tag_list({**published, name: changed}, "here")


def test_checksums_are_those_of_the_published_files() -> None:
    path = Path(__file__).parent.parent / "golden" / "seesr" / "manifest_tag_lists.json"
    files = json.loads(path.read_text())["files"]
    assert {name: files[name]["sha256"] for name in TAG_LISTS} == TAG_LISTS
