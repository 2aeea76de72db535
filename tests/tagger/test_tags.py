"""From logits to a prompt, and the published lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from restoration.common.state_dict import CheckpointError
from restoration.tagger import tags
from restoration.tagger.config import RAM, TAG_LISTS
from restoration.tagger.tags import SHIPPED, TagList, read_tag_list

Finder = Callable[[str], str | None]
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


def copied(folder: Path, change: Callable[[bytes], bytes] = lambda content: content) -> Finder:
    """Finds the user's own lists, which are the published ones, changed."""
    for name in TAG_LISTS:
        (folder / name).write_bytes(change((SHIPPED / name).read_bytes()))
    return lambda name: str(folder / name)


def test_the_lists_come_with_the_pack() -> None:
    found = read_tag_list()
    assert len(found.names) == len(found.thresholds) == RAM.labels
    assert found.names[0] == "3D CG rendering" and found.thresholds.min() > 0.4


def test_lists_from_a_checkout_on_windows_are_the_same(tmp_path) -> None:
    own = read_tag_list(copied(tmp_path, lambda content: content.replace(b"\n", b"\r\n")))
    assert own.names == read_tag_list().names


@pytest.mark.parametrize("name", [LIST, THRESHOLDS])
def test_a_list_of_the_user_is_read_first_and_refused_when_changed(tmp_path, name) -> None:
    find = copied(tmp_path)
    (tmp_path / name).write_bytes((SHIPPED / name).read_bytes().replace(b"\n", b"\n\n", 1))
    with pytest.raises(CheckpointError, match=f"{name} is not the published .* delete it, for the"):
        read_tag_list(find)


def test_a_list_that_the_pack_lacks_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tags, "SHIPPED", tmp_path)
    with pytest.raises(CheckpointError, match=f"{LIST} cannot be read .* install the pack again"):
        read_tag_list()


def test_checksums_are_those_of_the_published_files() -> None:
    path = Path(__file__).parent.parent / "golden" / "seesr" / "manifest_tag_lists.json"
    files = json.loads(path.read_text())["files"]
    assert {name: files[name]["sha256"] for name in TAG_LISTS} == TAG_LISTS
