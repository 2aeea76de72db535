from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from restoration.training.commands import read_config
from restoration.training.config import (
    NoModel,
    different,
    make_config,
    read_toml,
    to_toml,
    with_settings,
)
from restoration.training.damage import damage_of
from restoration.training.errors import TrainingError
from restoration.training.export import metadata_of
from restoration.training.parts import PARTS, part_module
from restoration.training.presets import PRESETS
from restoration.training.rate import rate


@pytest.mark.parametrize("authors", PRESETS)
def test_every_preset_needs_only_paths_and_survives_its_file(tmp_path, authors) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f'authors = "{authors}"\n[run]\nfolder = "out"\n', "utf-8")
    config = read_config(file, [])
    assert config.part in PARTS and config.run.folder == str(tmp_path / "out")
    damage_of(config.data.degradation)
    again = tmp_path / "config.toml"
    again.write_text(to_toml(config.table()), "utf-8")
    table = read_toml(again)
    made = make_config(config.part, part_module(config.part).Model, {}, table, "it")
    assert made == config


def test_the_published_rates_of_dape() -> None:
    optimizer = make_config("dape", NoModel, PRESETS["dape"][1], {}, "it").optimizer
    steps = {0: 0.0, 25: 5e-5, 50: 1e-4, 19_999: 1e-4, 20_000: 5e-5, 30_000: 2.5e-5}
    assert {step: rate(optimizer, step) for step in steps} == pytest.approx(steps)


def test_a_cosine_takes_the_rate_from_its_peak_to_nothing() -> None:
    section = {"lr": 1e-3, "warmup": 10, "cosine": 100}
    optimizer = make_config("toy", NoModel, {}, {"optimizer": section}, "it").optimizer
    steps = {0: 0.0, 5: 5e-4, 10: 9.755e-4, 50: 5e-4, 100: 0.0, 150: 0.0}
    assert {s: rate(optimizer, s) for s in steps} == pytest.approx(steps, abs=1e-6)


def test_a_value_that_a_checkpoint_does_not_know_was_the_default() -> None:
    plain, averaged = (
        make_config("toy", NoModel, {}, {"optimizer": {"average": value}}, "it")
        for value in (0.0, 0.9)
    )
    table = plain.table()
    del table["optimizer"]["average"]
    assert not list(different(plain, table))
    assert list(different(averaged, table)) == ["optimizer.average: 0.0 there, 0.9 here"]


def test_set_goes_over_the_file_and_the_file_over_the_preset(tmp_path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('authors = "pasd"\n[run]\nfolder = "a"\nbatch = 8\nseed = 5', "utf-8")
    config = read_config(file, ["run.batch=16", "data.pictures=photos", "optimizer.lr=1e-6"])
    assert (config.run.batch, config.run.seed, config.optimizer.clip) == (16, 5, 1.0)
    assert config.optimizer.lr == 1e-6 and config.data.pictures == (str(tmp_path / "photos"),)


WRONG = [
    ('authors = "psad"', "did you mean pasd?"),
    ('authors = "pasd"\n[optimiser]', "did you mean optimizer?"),
    ('authors = "pasd"\n[optimizer]\nLR = 1', r"\[optimizer\]: there is no LR"),
    ('authors = "pasd"\n[optimizer]\nlr = "fast"', "'fast'; expected a number"),
    ('authors = "pasd"\n[run]\nbatch = -1', "expected 0 or more"),
    ('authors = "pasd"\n[run]\nprecision = "fp8"', "one of no, fp16, bf16"),
    ('authors = "pasd"\n[run\n', "is no TOML"),
    ("[run]", "does not say what is trained"),
    ('part = "supir"', "there are pasd"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_wrong_in_a_file_is_a_sentence(tmp_path, text, words) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(TrainingError, match=words):
        read_config(file, [])


def test_a_file_of_another_part_is_refused(tmp_path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('authors = "seesr"', "utf-8")
    with pytest.raises(TrainingError, match="is for seesr"):
        read_config(file, [], "pasd")


def test_a_setting_without_a_section_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"section\.key=value"):
        with_settings({}, ["lr=1"])


def test_only_paths_and_lengths_may_change_between_a_checkpoint_and_the_run() -> None:
    @dataclass(frozen=True)
    class Model:
        width: int = 3

    def made(**table):
        return make_config("toy", Model, {}, table, "it")

    old = made().table()
    assert not list(different(made(run={"steps": 7, "folder": str(Path("x"))}), old))
    assert list(different(made(model={"width": 4}, run={"seed": 2}), old)) == [
        "model.width: 3 there, 4 here",
        "run.seed: 0 there, 2 here",
    ]


def test_exported_files_do_not_tell_whose_machine_they_are_from(tmp_path):
    table = {
        "data": {"pictures": [str(tmp_path / "mine"), str(tmp_path / "hers")]},
        "model": {"start_from": str(tmp_path / "first.safetensors")},
        "run": {"folder": str(tmp_path / "runs/light")},
        "samples": {"pictures": str(tmp_path / "others")},
    }
    part, values = PRESETS["light"]
    config = make_config(part, part_module(part).Model, values, table, "test")
    head = metadata_of(config, 7, {}, {"base": "ab"})
    assert str(tmp_path) not in str(head)
    told = json.loads(head["training_config"])
    assert told["data"]["pictures"] == ["mine", "hers"] and told["data"]["texts"] == ""
    assert (told["model"]["start_from"], told["run"]["folder"]) == ("first.safetensors", "light")
    assert head["base_sha256"] == "ab" and head["trained_steps"] == "7"
