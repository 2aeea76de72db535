from __future__ import annotations

import math
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from restoration.training.commands import main
from restoration.training.config import Data
from restoration.training.damage import damage_of
from restoration.training.data.pairs import Order, Pairs, load, share_of
from restoration.training.data.pictures import cropped, to_tensor
from restoration.training.data.sources import survey, training_items
from restoration.training.errors import TrainingError

SIDE = 24


def picture(seed: int, width: int = 40, height: int = 32) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


@pytest.fixture
def folder(tmp_path):
    """Four pictures, one below, with texts; the run's TOML beside them."""
    place = tmp_path / "pictures"
    for seed, name in enumerate(("a.png", "b.v2.jpg", "below/c.png", "d.png")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(place / name)
        (place / name).with_suffix(".txt").write_text(f"words of {name}\n", "utf-8")
    (place / "a.long.txt").write_text("many words", "utf-8")
    (tmp_path / "run.toml").write_text(
        'part = "pasd"\n[data]\npictures = "pictures"\ntext = "file"\nsize = 24\n'
        'degradation = "pasd"\n',
        "utf-8",
    )
    return place


def data_of(folder, **values) -> Data:
    chosen = {"size": SIDE, "text": "file", "workers": 0} | values
    return Data(pictures=(str(folder),), **chosen)


def pairs_of(data: Data, damage: str = "none", seed: int = 1) -> Pairs:
    items = training_items(data, False)
    return Pairs(data, items, Order(len(items), seed), damage_of(damage))


def test_partners_are_found_by_name(folder) -> None:
    found = survey(data_of(folder))
    texts = {item.name: item.text.read().decode().strip() for item in found.items}
    assert texts == {
        "a": "words of a.png",
        "b.v2": "words of b.v2.jpg",
        "below/c": "words of below/c.png",
        "d": "words of d.png",
    }
    assert [item.name for item in found.items if item.long_text] == ["a"]


def test_target_and_hint_show_the_same_part_mirrored_alike(folder) -> None:
    lq = folder.parent / "lq"
    for path in folder.rglob("*.[pj][np]g"):
        partner = (lq / path.relative_to(folder)).with_suffix(".png")
        partner.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(partner)
    pairs = pairs_of(data_of(folder, lq=(str(lq),), flip=0.5))
    for sample in range(8):
        pair = pairs[sample]
        assert torch.equal(pair["hq"], pair["lq"])
    (lq / "d.png").unlink()
    with pytest.raises(TrainingError, match=r"1 of 4 pictures have no damaged partner .*is d\)"):
        pairs_of(data_of(folder, lq=(str(lq),)))


def test_a_sample_follows_from_its_number_alone(folder) -> None:
    pairs = pairs_of(data_of(folder, flip=0.5, null_text=0.5), "pasd")
    one = load(pairs, share_of(4, 4, 1, 0), 0, 2, 0)
    parts = [load(pairs, share_of(4, 1, 2, process), 0, 2, 0) for process in range(2)]
    for batch in one:
        rows = [next(parts[process]) for _ in range(2) for process in range(2)]
        assert batch["captions"] == [row["captions"][0] for row in rows]
        for key in ("hq", "lq"):
            assert torch.equal(batch[key], torch.cat([row[key] for row in rows]))
    assert sorted(pairs.order(sample) for sample in range(4, 8)) == [0, 1, 2, 3]


def test_shards_give_what_their_folder_gives(folder, capsys) -> None:
    shards = folder.parent / "shards"
    run = str(folder.parent / "run.toml")
    assert main(["data", "pack", "--config", run, str(shards), "--samples", "3"]) == 0
    assert len(list(shards.glob("*.tar"))) == 2
    packed = pairs_of(Data(pictures=(f"{shards}/*.tar",), size=SIDE, text="file"))
    for number, sample in enumerate(pairs_of(data_of(folder))):
        assert torch.equal(sample["hq"], packed[number]["hq"])
        assert sample["captions"] == packed[number]["captions"]
        if number == 3:
            break
    assert main(["data", "pack", "--config", run, str(shards)]) == 1
    assert "there already" in capsys.readouterr().err

    whole = sorted(shards.glob("*.tar"))[0]
    with tarfile.open(whole) as tar:
        last = tar.getmembers()[-1]
    blocks = math.ceil(last.size / tarfile.BLOCKSIZE)
    between = last.offset_data + blocks * tarfile.BLOCKSIZE
    whole.chmod(0o644)
    for end in (between, 4000):  # between two files, and within one
        whole.write_bytes(whole.read_bytes()[:end])
        with pytest.raises(TrainingError, match=r"The shard .*000000\.tar cannot be read beyond"):
            training_items(Data(pictures=(f"{shards}/*.tar",)), False)


def test_a_broken_picture_is_skipped_by_name_and_too_many_stop_the_run(folder, caplog) -> None:
    (folder / "a.png").write_bytes(b"not a picture")
    pairs = pairs_of(data_of(folder))
    names = {pairs[sample]["names"] for sample in range(4)}
    assert not any(name.endswith("a.png") for name in names)
    assert "a.png is skipped" in caplog.text
    for path in folder.rglob("*.[pj][np]g"):
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="10 pictures one after the other"):
        _ = pairs[0]


def test_check_names_what_is_missing_or_broken(folder, capsys) -> None:
    run = ["data", "check", "--config", str(folder.parent / "run.toml")]
    assert main(run) == 0
    (folder / "lonely.txt").write_text("words", "utf-8")
    (folder / "below/c.txt").unlink()
    picture(9, 10, 10).save(folder / "d.png")
    (folder / "a.png").write_bytes(b"")
    assert main(run) == 1
    said = capsys.readouterr().out
    assert "texts have no picture of their name: lonely." in said
    assert "pictures have no text of their name: below/c." in said
    assert "a in " in said and "1 are smaller than the crop of 24: they are enlarged." in said


def test_preview_is_a_sheet_and_never_replaces_a_file(folder) -> None:
    sheet = folder.parent / "sheet.png"
    run = ["data", "preview", "--config", str(folder.parent / "run.toml"), str(sheet)]
    assert main([*run, "--count", "3"]) == 0
    assert Image.open(sheet).height >= 2 * SIDE
    assert main(run) == 1


@pytest.mark.parametrize("crop", ["random", "center", "halving", "halving_random", "shorter_side"])
@pytest.mark.parametrize("size", [(7, 9), (24, 24), (25, 200)])
def test_every_crop_takes_every_size(crop, size) -> None:
    found = cropped(picture(0, *size), Data(size=SIDE, crop=crop), np.random.default_rng(0))
    assert found.size == (SIDE, SIDE)


def test_a_small_picture_grows_as_pasd_does() -> None:
    found = cropped(picture(0, 20, 12), Data(size=24, crop="center"), np.random.default_rng(0))
    grown = picture(0, 20, 12).resize((41, 25), Image.Resampling.BICUBIC)
    assert found.tobytes() == grown.crop((8, 0, 32, 24)).tobytes()


def test_gray_keeps_the_target() -> None:
    target, hint = damage_of("gray")(to_tensor(picture(0)), 0)
    assert torch.equal(target, to_tensor(picture(0)))
    assert torch.equal(hint[0], hint[2]) and hint.shape == target.shape


def test_seesr_and_diffbir_learn_a_sharpened_target_and_pasd_does_not() -> None:
    pixels = to_tensor(picture(0))
    plain = {name: torch.equal(damage_of(name)(pixels, 0)[0], pixels) for name in TARGETS}
    assert plain == TARGETS


TARGETS = {"pasd_exact": True, "diffbir_v2": True, "seesr": False, "diffbir_v2.1": False}


def test_an_unknown_degradation_is_a_sentence() -> None:
    with pytest.raises(TrainingError, match=r"there are none, gray, light, .*realesrgan"):
        damage_of("pads")


def test_missing_places_are_sentences(tmp_path) -> None:
    for pictures, words in (
        ((), "is empty"),
        ((str(tmp_path),), "No pictures"),
        (("x.tar",), "neither"),
    ):
        with pytest.raises(TrainingError, match=words):
            training_items(Data(pictures=pictures), False)
