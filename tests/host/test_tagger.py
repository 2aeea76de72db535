"""The tagger in the real host: its files, the LoRA, batches, memory, interrupts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from restoration.common.state_dict import CheckpointError
from restoration.tagger.config import TAG_LISTS
from restoration.tests.host.networks import seeded_input
from restoration.tests.host.seesr_networks import (
    dape_weights,
    ram_weights,
    tagger_config,
    tiny_tagger,
)

pytestmark = pytest.mark.host

LIST, THRESHOLDS = TAG_LISTS
LABELS = 12
NAMES = [f"tag {i}" for i in range(LABELS)]
VALUES = [0.3 + 0.05 * i for i in range(LABELS)]


@pytest.fixture
def host(comfy):
    return comfy


@pytest.fixture
def folder(host, tmp_path: Path, monkeypatch) -> Path:
    """models/restoration with a small RAM, a DAPE for it and lists, taken for the published."""
    from restoration.host import folders
    from restoration.tagger import load as tagger
    from restoration.tagger import tags

    folders.register_folders()
    table = host.folder_paths.folder_names_and_paths
    monkeypatch.setitem(table, folders.KIND, ([str(tmp_path)], table[folders.KIND][1]))
    monkeypatch.setattr(folders, "register_folders", lambda: None)
    host.folder_paths.filename_list_cache.pop(folders.KIND, None)

    ram = ram_weights(LABELS)
    theirs = {k.replace("tagging_head.", "vision_multi."): v for k, v in ram.items()}
    torch.save({"model": theirs | {"text_decoder.x": torch.ones(1)}}, tmp_path / "ram.pth")
    torch.save(dape_weights(ram), tmp_path / "DAPE.pth")
    contents = {LIST: "\n".join(NAMES).encode(), THRESHOLDS: "\n".join(map(str, VALUES)).encode()}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(tags, "TAG_LISTS", checksums)
    for module in (tags, tagger):
        monkeypatch.setattr(module, "RAM", tagger_config(LABELS))
    yield tmp_path
    host.folder_paths.filename_list_cache.pop(folders.KIND, None)


def picture(rows: int = 1, name: str = "photo") -> Tensor:
    return torch.sigmoid(seeded_input(9, name, rows, 31, 43, 3))


def loaded(dape: str = "DAPE.pth", strength: float = 1.0) -> Any:
    from restoration.nodes.seesr import DAPELoader

    return DAPELoader.execute("ram.pth", dape, strength).result[0]


def tagged(model: Any, image: Tensor, **inputs: Any) -> tuple[list[str], Any]:
    from restoration.nodes.seesr import DAPETagger

    inputs = {"threshold_offset": 0.0, "max_tags": 0, "exclude": "", **inputs}
    return DAPETagger.execute(model, image, **inputs).result


def probabilities(model: Any, embeds: Tensor) -> Tensor:
    with torch.no_grad():
        return model.network.logits(embeds).sigmoid()


def test_files_load_as_published(folder) -> None:
    """The decoder under its published name, further weights, a LoRA table, the lists."""
    model = loaded()
    assert model.tags.names == tuple(NAMES)
    torch.testing.assert_close(model.tags.thresholds, torch.tensor(VALUES))
    texts, embeds = tagged(model, picture())
    assert embeds.embeds.shape == (1, 10, 512)
    expected = probabilities(model, embeds.embeds)[0] > torch.tensor(VALUES)
    assert 0 < int(expected.sum()) < LABELS
    assert texts == [", ".join(n for n, seen in zip(NAMES, expected, strict=True) if seen)]


def test_lora_strength_0_is_plain_ram_and_1_is_dape(folder) -> None:
    plain, off, on, half = (
        tagged(loaded(*choice), picture())[1].embeds
        for choice in (("none", 1.0), ("DAPE.pth", 0.0), ("DAPE.pth", 1.0), ("DAPE.pth", 0.5))
    )
    assert torch.equal(plain, off)
    assert (on - plain).abs().max() > 1e-3
    assert (half - plain).abs().max() > 1e-3 and (half - on).abs().max() > 1e-3


def test_every_image_of_a_batch_gets_its_own_text_and_row(folder) -> None:
    from restoration.nodes.seesr import DAPETagger

    model, images = loaded(), torch.cat([picture(), picture(name="other"), picture(name="third")])
    texts, embeds = tagged(model, images)
    assert len(texts) == 3 and len(set(texts)) > 1
    for row in range(3):
        (text,), alone = tagged(model, images[row : row + 1])
        assert text == texts[row]
        assert torch.equal(alone.embeds, embeds.embeds[row : row + 1])
    assert DAPETagger.define_schema().outputs[0].is_output_list


def test_settings_of_the_text_leave_the_embeddings_alone(folder) -> None:
    model, image = loaded(), picture()
    (usual,), embeds = tagged(model, image)
    names = usual.split(", ")
    assert len(names) > 2
    (fewer,), same = tagged(model, image, max_tags=2, exclude=names[0])
    kept = fewer.split(", ")
    assert len(kept) == 2 and set(kept) < set(names[1:])
    (more,), _ = tagged(model, image, threshold_offset=-1.0)
    assert more == ", ".join(NAMES)
    (none,), _ = tagged(model, image, threshold_offset=1.0)
    assert none == ""
    assert torch.equal(same.embeds, embeds.embeds)


def test_gray_and_alpha_pictures_are_taken(folder) -> None:
    model, image = loaded(), picture()
    _, expected = tagged(model, image)
    _, with_alpha = tagged(model, torch.cat([image, torch.rand(1, 31, 43, 1)], -1))
    assert torch.equal(with_alpha.embeds, expected.embeds)
    _, gray = tagged(model, image[..., :1])
    _, as_rgb = tagged(model, image[..., :1].repeat(1, 1, 1, 3))
    # Not equal: resizing runs another kernel for another layout of memory, by the processor.
    assert torch.allclose(gray.embeds, as_rgb.embeds, atol=1e-5, rtol=0)


def test_antialias_is_off_unless_asked_for(folder) -> None:
    model, image = loaded(), picture()
    usual, off, on = (
        tagged(model, image, **options)[1].embeds
        for options in ({}, {"antialias": False}, {"antialias": True})
    )
    assert torch.equal(usual, off) and not torch.allclose(usual, on, atol=1e-4)


def test_a_list_that_the_user_has_not_is_the_packs(folder, tmp_path_factory, monkeypatch) -> None:
    from restoration.tagger import tags

    pack = tmp_path_factory.mktemp("pack")
    monkeypatch.setattr(tags, "SHIPPED", pack)
    for name in (LIST, THRESHOLDS):
        (folder / name).rename(pack / name)
    assert loaded().tags.names == tuple(NAMES)


def test_a_changed_list_of_the_user_is_refused(folder) -> None:
    (folder / LIST).write_text("\n".join(reversed(NAMES)))
    with pytest.raises(CheckpointError, match=f"{LIST} is not the published list"):
        loaded()


def test_wrong_files_get_a_sentence(folder) -> None:
    from restoration.nodes.seesr import DAPELoader

    save_file({"conv_in.weight": torch.zeros(1)}, folder / "other.safetensors")
    (folder / "cut.pth").write_bytes((folder / "ram.pth").read_bytes()[:300])
    for ram, dape, words in (
        ("other.safetensors", "none", r"^other\.safetensors is not RAM: this is an unknown model"),
        ("DAPE.pth", "none", r"^DAPE\.pth is not RAM: this is SeeSR's DAPE"),
        ("ram.pth", "ram.pth", r"^ram\.pth is not DAPE: this is .*Get DAPE\.pth"),
        ("cut.pth", "none", r"^cut\.pth is cut off after 300 bytes"),
    ):
        with pytest.raises(CheckpointError, match=words):
            DAPELoader.execute(ram, dape, 1.0)
    with pytest.raises(ValueError, match=r"`dape_model` is a dict.* Connect Load DAPE"):
        tagged({}, picture())


def test_a_replaced_file_loads_again(folder) -> None:
    from restoration.nodes.seesr import DAPELoader

    choice = ("ram.pth", "DAPE.pth", 1.0)
    first = DAPELoader.fingerprint_inputs(*choice)
    assert DAPELoader.fingerprint_inputs(*choice) == first
    assert len(DAPELoader.fingerprint_inputs("ram.pth", "none", 1.0)) == 1
    (folder / "DAPE.pth").write_bytes(b"1")
    assert DAPELoader.fingerprint_inputs(*choice) != first


def test_the_dropdown_lists_weights_only(folder) -> None:
    from restoration.nodes.seesr import DAPELoader

    (folder / "detector.onnx").write_bytes(b"1")
    (folder / "seesr").mkdir()
    (folder / "seesr" / "unet.safetensors").write_bytes(b"1")
    ram, dape, _ = DAPELoader.define_schema().inputs
    names = {"ram.pth", "DAPE.pth", str(Path("seesr") / "unet.safetensors")}
    assert set(ram.options) == names
    assert set(dape.options) == {"none", *names} and dape.options[0] == "none"


def test_memory_management_loads_it(host, monkeypatch) -> None:
    asked: list[Any] = []
    load = host.model_management.load_models_gpu

    def spy(models: Any, memory_required: int = 0, **options: Any) -> Any:
        asked.append((models, memory_required))
        return load(models, memory_required=memory_required, **options)

    monkeypatch.setattr(host.model_management, "load_models_gpu", spy)
    model = tiny_tagger()
    tagged(model, picture())
    ((models, memory),) = asked
    assert models == [model.patcher] and memory > 0
    leaves = [m for m in model.network.modules() if not list(m.children()) and m._parameters]
    ours = {"WindowAttention", "Tagger"}
    assert all(
        hasattr(leaf, "comfy_cast_weights") or type(leaf).__name__ in ours for leaf in leaves
    )


def failing(host, times: int) -> Any:
    """A hook that runs out of memory so often."""
    left = [True] * times

    def fail(*_: Any) -> None:
        if left:
            left.pop()
            raise host.model_management.OOM_EXCEPTION("the card is full")

    return fail


def test_out_of_memory_is_tried_once_more_with_the_card_to_itself(
    host, monkeypatch, caplog
) -> None:
    model, unloaded = tiny_tagger(), []
    expected = tagged(model, picture(2))
    unload = host.model_management.unload_all_models
    monkeypatch.setattr(
        host.model_management, "unload_all_models", lambda: (unloaded.append(1), unload())
    )
    network = model.network.visual_encoder
    handle = network.register_forward_pre_hook(failing(host, 1))
    texts, embeds = tagged(model, picture(2))
    handle.remove()
    assert texts == expected[0] and torch.equal(embeds.embeds, expected[1].embeds)
    assert unloaded == [1] and "Tag Image (DAPE): out of memory; trying again" in caplog.text
    handle = network.register_forward_pre_hook(failing(host, 2))
    with pytest.raises(host.model_management.OOM_EXCEPTION):
        tagged(model, picture(2))
    handle.remove()


def test_an_interrupt_stops_between_pictures(host) -> None:
    mm, model = host.model_management, tiny_tagger()
    seen: list[int] = []

    def interrupt(*_: Any) -> None:
        seen.append(1)
        mm.interrupt_current_processing(True)

    handle = model.network.visual_encoder.register_forward_hook(interrupt)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            tagged(model, picture(3))
    finally:
        handle.remove()
        mm.interrupt_current_processing(False)
    assert seen == [1]
    assert len(tagged(model, picture(3))[0]) == 3
