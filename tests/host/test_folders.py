"""Which names lead to a file of the user, and which do not."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.host


@pytest.fixture
def places(comfy, tmp_path: Path, monkeypatch) -> tuple[Path, Path]:
    """Two places of models/restoration beside a folder that is none of them."""
    from restoration.host import folders

    folders.register_folders()
    found = tmp_path / "first", tmp_path / "second"
    for place in (*found, tmp_path / "outside"):
        (place / "model").mkdir(parents=True)
        (place / "model" / "config.json").write_text("{}")
        (place / "net.pth").write_bytes(b"weights")
    table = comfy.folder_paths.folder_names_and_paths
    entry = ([str(place) for place in found], table[folders.KIND][1])
    monkeypatch.setitem(table, folders.KIND, entry)
    monkeypatch.setattr(folders, "register_folders", lambda: None)
    return found


def leading_out(places: tuple[Path, Path]) -> list[str]:
    outside = places[0].parent / "outside"
    return [
        str(outside / "net.pth"),
        str(outside / "model"),
        "../outside/net.pth",
        "../outside/model",
        "model/../../outside/model",
        "/etc/passwd",
        "..",
        ".",
        "",
        "net.pth\0",
    ]


def test_a_name_leads_down_from_the_first_place_that_has_it(places) -> None:
    from restoration.host.folders import KIND, find_below, find_file

    first, second = places
    (second / "late.pth").touch()
    assert find_below(KIND, "net.pth") == first / "net.pth"
    assert find_below(KIND, "late.pth") == find_file(KIND, "late.pth") == second / "late.pth"
    assert find_below(KIND, "model", holding="config.json") == first / "model"
    assert find_below(KIND, "model") is None, "a folder is no file"
    assert find_below(KIND, "gone.pth") is None
    with pytest.raises(FileNotFoundError, match=r"no file 'gone\.pth' in .*first or .*second"):
        find_file(KIND, "gone.pth")


def test_a_link_that_its_owner_put_there_is_followed(places) -> None:
    from restoration.host.folders import KIND, find_below

    first, outside = places[0], places[0].parent / "outside"
    (first / "linked.pth").symlink_to(outside / "net.pth")
    (first / "linked").symlink_to(outside / "model", target_is_directory=True)
    assert find_below(KIND, "linked.pth") == first / "linked.pth"
    assert find_below(KIND, "linked", holding="config.json") == first / "linked"


def test_no_name_leads_out_of_the_models_folders(places) -> None:
    from restoration.host.folders import KIND, find_below, find_restoration_file
    from restoration.host.loading import fingerprint, read_file
    from restoration.tagger.load import (
        folder_fingerprint,
        load_captioner,
        load_classifier,
        load_detector,
    )

    readers = (
        lambda name: find_below(KIND, name),
        lambda name: find_below(KIND, name, holding="config.json"),
        find_restoration_file,
        lambda name: read_file(KIND, name),
        lambda name: fingerprint(KIND, name),
        folder_fingerprint,
        load_classifier,
        load_captioner,
        lambda name: load_detector(name, 0.5),
    )
    for name in leading_out(places):
        for reader in readers:
            with pytest.raises(ValueError, match="is not the name of something in the folder"):
                reader(name)


def test_a_prompt_cannot_make_a_node_read_elsewhere(places) -> None:
    """Fingerprints are taken of every prompt, also where 0.3.64 checks no choices."""
    from restoration.nodes.diffbir import DiffBIRControlLoader
    from restoration.nodes.pasd import PASDLoader
    from restoration.nodes.prompt import HighLevelPrompt
    from restoration.nodes.seesr import DAPELoader, SeeSRLoader

    for name in leading_out(places):
        for call in (
            lambda name: HighLevelPrompt.fingerprint_inputs(name, "none", "none"),
            lambda name: HighLevelPrompt.fingerprint_inputs("none", name, "none"),
            lambda name: HighLevelPrompt.fingerprint_inputs("none", "none", name),
            DiffBIRControlLoader.fingerprint_inputs,
            lambda name: PASDLoader.fingerprint_inputs(name, name),
            lambda name: SeeSRLoader.fingerprint_inputs(name, name),
            lambda name: DAPELoader.fingerprint_inputs(name, name, 1.0),
        ):
            with pytest.raises(ValueError, match="is not the name of something in the folder"):
                call(name)
