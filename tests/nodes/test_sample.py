"""A photo of the user's, or the one that comes with the pack."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "scripts" / "photo" / "degraded.jpg"

pytestmark = pytest.mark.host


@pytest.fixture
def node(comfy, tmp_path, monkeypatch) -> Any:
    """The node, in a host whose folders for pictures are empty."""
    from restoration.nodes.sample import RestorationSamplePhoto

    for folder in ("input", "temp"):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(comfy.folder_paths, f"{folder}_directory", str(tmp_path / folder))
    return RestorationSamplePhoto


def said(comfy, monkeypatch, node: Any, **inputs: Any) -> list[str]:
    """What the host says of a prompt with this node before it is queued."""
    import execution

    monkeypatch.setitem(comfy.nodes.NODE_CLASS_MAPPINGS, "RestorationSamplePhoto", node)
    prompt = {
        "1": {"class_type": "RestorationSamplePhoto", "inputs": inputs},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    _, _, _, problems = asyncio.run(execution.validate_prompt("0", prompt, None))
    return [error["details"] for each in problems.values() for error in each["errors"]]


def test_the_sample_is_the_demos_photo_whose_license_is_known(node, tmp_path) -> None:
    from restoration.host.sample_photo import PHOTO, SAMPLE

    assert PHOTO.read_bytes() == DEMO.read_bytes()
    (part,) = node.define_schema().inputs
    assert part.options == [SAMPLE] and part.default == SAMPLE and part.optional
    image, mask = node.execute().result
    assert image.dtype == torch.float32
    assert np.array_equal(image[0].mul(255).round().byte().numpy(), np.asarray(Image.open(DEMO)))
    assert not mask.any()
    assert node.fingerprint_inputs() == node.fingerprint_inputs(SAMPLE)
    assert not any((tmp_path / "input").iterdir())


def test_the_host_finds_the_sample_under_its_name_once_the_pack_is_loaded(
    comfy, node, monkeypatch, tmp_path, caplog
) -> None:
    from restoration.host.sample_photo import SAMPLE, offer_sample

    offer_sample()
    offer_sample()
    shown = Path(comfy.folder_paths.get_annotated_filepath(SAMPLE))
    assert shown.read_bytes() == DEMO.read_bytes() and not caplog.records
    monkeypatch.setattr(comfy.folder_paths, "temp_directory", str(shown))  # no folder
    offer_sample()
    assert "cannot be shown" in caplog.text
    assert said(comfy, monkeypatch, node) == said(comfy, monkeypatch, node, image=SAMPLE) == []
    assert node.execute().result[0].shape == (1, 400, 512, 3)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(DEMO).crop((0, 0, 40, 30)).save(path, exif=exif)


def transparent(path: Path) -> None:
    Image.fromarray(np.arange(2400, dtype=np.uint8).reshape(20, 30, 4)).save(path)


def frames(path: Path) -> None:
    first, *rest = (Image.new("RGB", (8, 9), (each, 0, 9)) for each in (0, 90, 180))
    first.save(path, save_all=True, append_images=rest, lossless=True)


@pytest.mark.parametrize(
    ("name", "make"), [("a.jpg", turned), ("clipspace/b.png", transparent), ("c.webp", frames)]
)
def test_a_file_is_loaded_as_load_image_does(
    comfy, node, monkeypatch, tmp_path, name, make
) -> None:
    path = tmp_path / "input" / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    core = comfy.nodes.LoadImage
    listed = core.INPUT_TYPES()["required"]["image"][0]
    assert node.define_schema().inputs[0].options[1:] == listed
    assert said(comfy, monkeypatch, node, image=name) == []
    for found, expected in zip(node.execute(name).result, core().load_image(name), strict=True):
        assert torch.equal(found, expected)
    before = node.fingerprint_inputs(name)
    assert before == core.IS_CHANGED(name)
    path.write_bytes(path.read_bytes() + b"more")
    assert node.fingerprint_inputs(name) == core.IS_CHANGED(name) != before


@pytest.mark.parametrize("image", ["gone.png", "../gone.png", "/etc", 7])
def test_what_is_no_file_there_is_told_in_cores_words(comfy, node, monkeypatch, image) -> None:
    (sentence,) = said(comfy, monkeypatch, node, image=image)
    assert "Invalid image file: " in sentence and str(image) in sentence
    assert "choose a file" in sentence
    with pytest.raises(ValueError, match=r"Invalid image file|`image` is 7"):
        node.execute(image)
