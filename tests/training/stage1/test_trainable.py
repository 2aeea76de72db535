"""The light models on the loop that all parts share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("spandrel", reason="spandrel has the networks: pip install spandrel")

from safetensors import safe_open
from safetensors.torch import load_file

from restoration.stage1.keys import recognize
from restoration.training.config import Config, make_config
from restoration.training.errors import TrainingError
from restoration.training.loop import make_accelerator, train
from restoration.training.parts.light import Model, open_part
from restoration.training.presets import preset
from restoration.training.stage1 import network
from restoration.training.stage1.pictures import make
from restoration.training.stage1.trainable import HARM, LightTrainable, harm, log_mse


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in (1, 5):
        make(folder, number)
    return folder


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> None:
    few = {"width": 4, "enc_blk_nums": [1], "middle_blk_num": 1, "dec_blk_nums": [1]}
    monkeypatch.setattr(network, "RESTORING", {**network.RESTORING, "small": few})


def config(authors: str, pictures: Path, folder: Path, **sections: Any) -> Config:
    side = {"light": 64, "light_x2": 48, "light_x4": 96}[authors]
    table: dict[str, Any] = {
        "data": {"pictures": [str(pictures)], "size": side, "workers": 0},
        "optimizer": {"warmup": 0, "cosine": 4},
        "run": {"folder": str(folder), "steps": 2, "batch": 2},
        "save": {"every": 1, "export_every": 2},
        "samples": {"pictures": str(pictures), "every": 2, "count": 1},
    }
    for name, values in sections.items():
        table[name] = {**table.get(name, {}), **values}
    part, values = preset(authors)
    return make_config(part, Model, values, table, "test")


def run(chosen: Config, resume: str = "") -> Any:
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    opened = open_part(chosen)
    train(chosen, opened, make_accelerator(chosen, cpu=True), resume)
    return opened.part


@pytest.mark.parametrize("authors", ["light", "light_x2", "light_x4"])
def test_two_steps_give_a_file_that_is_known_as_the_bundled_model(
    authors, pictures, tmp_path
) -> None:
    part = run(config(authors, pictures, tmp_path))
    file = tmp_path / "export/00000002/weights.safetensors"
    with safe_open(file, "pt") as opened:
        weights = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        found = recognize(weights, file.name, opened.metadata())
    assert found is not None and found.version == "bundled" and not found.problem
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert weights.keys() == part.trained().keys()
    assert (tmp_path / "samples/00000002/00.png").is_file()


def test_the_preview_shows_small_pictures_below_their_targets(pictures, tmp_path) -> None:
    from PIL import Image

    from restoration.training.commands import main

    file, sheet = tmp_path / "light.toml", tmp_path / "sheet.png"
    file.write_text(f'authors = "light_x2"\n[data]\npictures = "{pictures.as_posix()}"\n', "utf-8")
    assert main(["data", "preview", str(sheet), "--config", str(file), "--count", "1"]) == 0
    with Image.open(sheet) as shown:
        assert shown.size == (80, 160)


def test_a_run_that_went_on_equals_one_without_a_break(pictures, tmp_path) -> None:
    run(config("light", pictures, tmp_path / "whole"))
    run(config("light", pictures, tmp_path / "parts", run={"steps": 1}))
    run(config("light", pictures, tmp_path / "parts"), resume="latest")
    whole, parts = (
        load_file(tmp_path / name / "export/00000002/weights.safetensors")
        for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_a_network_and_a_damage_that_do_not_fit_are_told(pictures, tmp_path) -> None:
    chosen = config("light_x2", pictures, tmp_path, data={"degradation": "light_x4"})
    with pytest.raises(TrainingError, match=r"shrinks pictures to 1/4, the other enlarges by 2"):
        open_part(chosen)


def test_blocks_that_the_weights_lack_change_nothing(monkeypatch) -> None:
    more = {"width": 4, "enc_blk_nums": [2], "middle_blk_num": 3, "dec_blk_nums": [2]}
    monkeypatch.setattr(network, "RESTORING", {**network.RESTORING, "large": more})
    old, new = network.make_network("small"), network.make_network("large")
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network.start_from(new, old.state_dict())
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(new(picture), old(picture), atol=1e-6)
    with pytest.raises(ValueError, match=r"another network: 'decoders\.0\.1"):
        network.start_from(old, new.state_dict())
    with pytest.raises(ValueError, match="another network"):
        network.start_from(old, {k: v for k, v in old.state_dict().items() if k != "intro.bias"})


def test_x4_may_start_from_x2_but_for_its_last_layer() -> None:
    x2, x4 = network.make_network("x2", 1), network.make_network("x4", 2)
    before = {key: value.clone() for key, value in x4.state_dict().items()}
    network.start_from(x4, x2.state_dict())
    last = sorted(before, key=lambda key: int(key.split(".")[1]))[-2:]
    for key, value in x4.state_dict().items():
        assert torch.equal(value, before[key] if key in last else x2.state_dict()[key]), key
    again = network.make_network("x2", 3)
    network.start_from(again, x2.state_dict())
    assert all(torch.equal(v, x2.state_dict()[k]) for k, v in again.state_dict().items())
    with pytest.raises(ValueError, match="another network"):
        network.start_from(x4, network.make_network("small").state_dict())


def test_an_error_of_one_level_ends_the_reward() -> None:
    clean = torch.full((1, 3, 8, 8), 0.5)
    values = [log_mse(clean + error / 255, clean, 2e-5).item() for error in (0, 1, 10)]
    assert values[1] - values[0] < 0.7 < values[2] - values[1]


def test_harm_is_how_much_farther_than_its_input_a_sample_is() -> None:
    clean = torch.full((2, 3, 8, 8), 0.5)
    damaged = clean + torch.tensor([10.0, 2.0]).view(2, 1, 1, 1) / 255
    output = clean + torch.tensor([5.0, 4.0]).view(2, 1, 1, 1) / 255  # better; twice as far
    assert harm(output, damaged, clean, 0.0).item() == pytest.approx(math.log(4) / 2, rel=1e-4)
    assert harm(damaged, damaged, clean, 2e-5).item() == 0


def test_only_what_restores_counts_harm() -> None:
    small, large = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 32, 32)
    part = LightTrainable("small")
    terms = part({"lq": small, "hq": small}, {})
    again = harm(part.network(small), small, small, part.floor)
    assert terms["harm"].item() == pytest.approx(HARM * again.item()) != 0
    assert LightTrainable("x2")({"lq": small, "hq": large}, {}).keys() == {"log_mse"}
