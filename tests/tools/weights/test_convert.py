"""Conversion: what comes out loads as the published files do, and nothing is ever half written."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from restoration.common.state_dict import CheckpointError
from restoration.diffbir.keys import convert as diffbir_convert
from restoration.pasd import keys as pasd
from restoration.seesr import keys as seesr
from restoration.tagger import keys as tagger
from restoration.tagger.ram import Tagger
from restoration.tests.tools.weights import tiny
from restoration.tools.files import replacing
from restoration.tools.weights import convert as module
from restoration.tools.weights.convert import convert, sidecar
from restoration.tools.weights.known import identify


@pytest.fixture(autouse=True)
def _tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.use_tiny_sizes(monkeypatch)


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    path = tmp_path / "v2.pth"
    weights = {f"module.{key}": value for key, value in tiny.diffbir().items()}
    torch.save({"state_dict": weights}, path)
    return path


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


# What comes out


def test_a_pickle_becomes_one_safetensors_that_says_what_it_is(v2) -> None:
    done = convert([v2])
    assert done.written and done.path == v2.with_suffix(".safetensors")
    published = torch.load(v2, weights_only=True)
    expected = diffbir_convert(published, config=tiny.DIFFBIR)
    assert same(load_file(done.path), expected)
    assert same(diffbir_convert(load_file(done.path), config=tiny.DIFFBIR), expected)
    said = metadata(done.path)
    assert (said["restoration.method"], said["restoration.version"]) == ("diffbir", "v2")
    digest = hashlib.sha256(v2.read_bytes()).hexdigest()
    assert json.loads(said["restoration.source"]) == {"v2.pth": digest}
    digest = hashlib.sha256(done.path.read_bytes()).hexdigest()
    assert sidecar(done.path).read_text() == f"{digest}  v2.safetensors\n" and digest == done.sha256
    # The version outlives another name.
    renamed = done.path.rename(v2.with_name("other.safetensors"))
    assert identify(load_file(renamed), renamed.name, metadata(renamed)).version == "v2"


@pytest.mark.parametrize("ending", ["bin", "safetensors"])
@pytest.mark.parametrize("variant", ["pasd", "pasd_light"])
@pytest.mark.parametrize("rrdb", [False, True])
def test_a_pasd_folder_becomes_one_file(tmp_path, ending, variant, rrdb) -> None:
    unet, control = tiny.pasd_unet(variant), tiny.pasd_control(rrdb)
    tiny.write_release(tmp_path / "runs" / "checkpoint-100000", unet, control, ending)
    done = convert([tmp_path / "runs"])
    name = f"{variant}{'_rrdb' if rrdb else ''}"
    assert done.found.version == name
    assert done.path == tmp_path / "runs" / "checkpoint-100000" / f"{name}.safetensors"
    contents = load_file(done.path)
    kind, added = pasd.added_part(contents)
    assert kind == variant and same(added, pasd.added_part(unet)[1])
    for part, expected in zip(pasd.control_part(contents), pasd.control_part(control), strict=True):
        assert same(part, expected)
    plain = [key for key in unet if not pasd.is_added(key)]
    assert plain and not any(f"unet.{key}" in contents for key in plain)


def test_the_two_files_of_a_release_come_in_either_order(tmp_path) -> None:
    release = tiny.write_release(tmp_path, tiny.seesr_unet(), tiny.seesr_control())
    files = [release / part / "diffusion_pytorch_model.bin" for part in ("unet", "controlnet")]
    first = convert(files, tmp_path / "a.safetensors")
    second = convert(files[::-1], tmp_path / "b.safetensors")
    assert same(load_file(first.path), load_file(second.path))
    assert first.found.method == "seesr"


def test_a_seesr_folder_becomes_one_file_with_its_base(tmp_path) -> None:
    unet, control = tiny.seesr_unet(), tiny.seesr_control()
    tiny.write_release(tmp_path, unet, control)
    done = convert([tmp_path])
    contents = load_file(done.path)
    plain, added = seesr.unet_parts(contents)
    assert same(plain | added, unet) and len(plain) > 50
    assert same(seesr.control_part(contents), control)


def test_the_tagger_and_its_lora_lose_what_is_never_run(tmp_path) -> None:
    layout = {k: tuple(v.shape) for k, v in Tagger(tiny.TAGGER, device="meta").state_dict().items()}
    ram, dape = tiny.ram(), tiny.dape()
    torch.save({"model": ram}, tmp_path / "ram.pth")
    torch.save(dape, tmp_path / "DAPE.pth")
    ram_read = load_file(convert([tmp_path / "ram.pth"]).path)
    lora = load_file(convert([tmp_path / "DAPE.pth"]).path)
    expected = tagger.ram_weights(ram, layout)
    assert ram_read.keys() == layout.keys()
    assert same(tagger.ram_weights(ram_read, layout), expected)
    ours, theirs = (tagger.dape_pairs(each, expected) for each in (lora, dape))
    assert ours.keys() == theirs.keys() and len(lora) == 2 * len(ours)
    for key, pair in theirs.items():
        assert all(map(torch.equal, ours[key], pair))


@pytest.mark.parametrize(
    ("stem", "ending"),
    [("diffusion_pytorch_model", "safetensors"), ("pytorch_model", "bin")],  # the older name
)
def test_parts_of_one_network_are_joined(tmp_path, stem: str, ending: str) -> None:
    unet, control = tiny.pasd_unet(), tiny.pasd_control()
    tiny.write_release(tmp_path, unet, control)
    (whole,) = (tmp_path / "unet").glob("*.bin")
    whole.unlink()
    keys = sorted(unet)
    save = save_file if ending == "safetensors" else torch.save
    for number, part in enumerate((keys[:100], keys[100:]), 1):
        path = tmp_path / "unet" / f"{stem}-0000{number}-of-00002.{ending}"
        save({key: unet[key] for key in part}, path)
    assert same(pasd.added_part(load_file(convert([tmp_path]).path))[1], pasd.added_part(unet)[1])
    path.unlink()
    with pytest.raises(CheckpointError, match=r"holds 1 of 2 parts"):
        convert([tmp_path], tmp_path / "b.safetensors")


def test_tensors_that_share_memory_are_written_out(tmp_path) -> None:
    weights = tiny.diffbir()
    weights["zero_convs.0.0.weight"] = weights["zero_convs.1.0.weight"]  # the format forbids it
    weights["zero_convs.0.0.bias"] = torch.randn(64)[:32]
    torch.save(weights, tmp_path / "v2.pth")
    assert same(load_file(convert([tmp_path / "v2.pth"]).path), weights)


def test_everybody_who_may_read_new_files_may_read_it(v2) -> None:
    done = convert([v2])
    (v2.parent / "new").touch()
    modes = {path.stat().st_mode for path in (done.path, sidecar(done.path), v2.parent / "new")}
    assert len(modes) == 1


def test_precision_is_kept(tmp_path) -> None:
    torch.save({k: v.half() for k, v in tiny.diffbir().items()}, tmp_path / "v2.pth")
    contents = load_file(convert([tmp_path / "v2.pth"]).path)
    assert {value.dtype for value in contents.values()} == {torch.float16}


# All or nothing


def fail_after_writing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def broken(weights, path, said):
        Path(path).write_bytes(b"half a file")
        raise error

    monkeypatch.setattr(module, "save_file", broken)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind_and_the_next_run_finishes(v2, monkeypatch, error) -> None:
    with monkeypatch.context() as patch:
        fail_after_writing(patch, error)
        with pytest.raises(type(error)):
            convert([v2])
    assert os.listdir(v2.parent) == ["v2.pth"]
    assert convert([v2]).written


def test_a_failure_leaves_the_earlier_file_as_it_was(v2, monkeypatch) -> None:
    done = convert([v2])
    before = done.path.read_bytes(), sidecar(done.path).read_bytes()
    torch.save(tiny.diffbir(), v2)
    fail_after_writing(monkeypatch, OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        convert([v2], force=True)
    assert before == (done.path.read_bytes(), sidecar(done.path).read_bytes())


def test_what_a_killed_run_left_is_replaced(v2) -> None:
    with contextlib.suppress(OSError), replacing(v2.with_suffix(".safetensors")) as part:
        raise OSError("killed")
    part.write_bytes(b"half a file")
    done = convert([v2])
    assert done.written and not part.exists() and identify(load_file(done.path)).complete


def test_a_finished_conversion_is_recognized(v2) -> None:
    first = convert([v2])
    state = first.path.stat().st_mtime_ns
    again = convert([v2])
    assert not again.written and again.sha256 == first.sha256
    assert first.path.stat().st_mtime_ns == state


def test_a_run_killed_before_its_sha256_is_finished(v2) -> None:
    first = convert([v2])
    expected = sidecar(first.path).read_text()
    sidecar(first.path).unlink()
    assert not convert([v2]).written
    assert sidecar(first.path).read_text() == expected


def test_nothing_else_is_overwritten_without_force(v2) -> None:
    first = convert([v2])
    torch.save(tiny.diffbir(), v2)
    before = first.path.read_bytes()
    with pytest.raises(CheckpointError, match=r"not made from these sources \(it is v2\).*--force"):
        convert([v2])
    assert first.path.read_bytes() == before
    assert convert([v2], force=True).written and first.path.read_bytes() != before
    first.path.write_bytes(b"a file of the user's")
    with pytest.raises(CheckpointError, match=r"exists and cannot be read.*--force"):
        convert([v2])
    assert first.path.read_bytes() == b"a file of the user's"


def test_equal_sources_make_equal_files(v2) -> None:
    """The writer puts metadata in an order of its own, another one each time."""
    digests = {convert([v2], v2.with_name("new.safetensors"), force=True).sha256 for _ in range(8)}
    assert len(digests) == 1


def test_a_damaged_conversion_is_noticed(v2) -> None:
    first = convert([v2])
    data = bytearray(first.path.read_bytes())
    data[-1] ^= 1
    first.path.write_bytes(data)
    with pytest.raises(CheckpointError, match="not what its sha256 says"):
        convert([v2])


def test_the_source_is_never_the_target(tmp_path) -> None:
    path = tmp_path / "v2.safetensors"
    save_file(tiny.diffbir(), path)
    with pytest.raises(CheckpointError, match="is the source"):
        convert([path], path, force=True)
    assert convert([path]).path == tmp_path / "v2_converted.safetensors"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["symlink_to", "hardlink_to"])
def test_no_source_is_written_over_through_a_link(v2, tmp_path, kind, force) -> None:
    release = tiny.write_release(tmp_path / "r", tiny.pasd_unet(), tiny.pasd_control())
    for sources, source in (
        ([v2], v2),
        ([release], release / "unet" / "diffusion_pytorch_model.bin"),
    ):
        before = source.read_bytes()
        for name in ("link.safetensors", "beside.safetensors.sha256"):
            link = tmp_path / name
            getattr(link, kind)(source)
            target = tmp_path / name.removesuffix(".sha256")
            with pytest.raises(CheckpointError, match=rf"{name} is the source: choose another"):
                convert(sources, target, force=force)
            assert link.samefile(source) and source.read_bytes() == before
            link.unlink()


def test_no_file_of_somebody_else_is_replaced_without_force(v2, tmp_path) -> None:
    for name in ("v2.safetensors", "v2.safetensors.sha256"):
        other = tmp_path / name
        for data in (b"mine", b"0" * 64 + b"  v2.safetensors\n"):
            other.write_bytes(data)
            with pytest.raises(CheckpointError, match="--force"):
                convert([v2])
            assert other.read_bytes() == data
        other.unlink()
        other.symlink_to(tmp_path / "gone")
        with pytest.raises(CheckpointError, match="--force"):
            convert([v2])
        assert other.is_symlink()
        other.unlink()
    assert convert([v2]).written


def test_the_sha256_of_a_name_with_a_line_break_is_one_that_sha256sum_reads(v2) -> None:
    done = convert([v2], v2.with_name("a\nb\\c.safetensors"))
    assert sidecar(done.path).read_bytes() == (
        b"\\" + done.sha256.encode() + b"  a\\nb\\\\c.safetensors\n"
    )
    assert not convert([v2], done.path).written


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_converted(tmp_path, bad) -> None:
    weights = tiny.diffbir()
    key = sorted(weights)[7]
    weights[key].view(-1)[-1] = bad
    torch.save(weights, tmp_path / "v2.pth")
    words = rf"is not whole: 1 of {len(weights)} weights are not finite \(first: {key}\)"
    with pytest.raises(CheckpointError, match=words):
        convert([tmp_path / "v2.pth"], force=True)
    assert os.listdir(tmp_path) == ["v2.pth"]


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_compiling_and_parallel_training_put_before_keys_is_taken_off(
    tmp_path, prefix
) -> None:
    weights = tiny.diffbir()
    torch.save({f"{prefix}{key}": value for key, value in weights.items()}, tmp_path / "v2.pth")
    assert same(load_file(convert([tmp_path / "v2.pth"]).path), weights)
    assert diffbir_convert(torch.load(tmp_path / "v2.pth"), config=tiny.DIFFBIR).keys() == (
        weights.keys()
    )


def test_a_full_disk_is_noticed_before_writing(v2, monkeypatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(CheckpointError, match=r"GiB free and the file takes"):
        convert([v2])
    assert os.listdir(v2.parent) == ["v2.pth"]


def test_output_may_be_a_folder_or_a_name(v2, tmp_path) -> None:
    (tmp_path / "models").mkdir()
    assert convert([v2], tmp_path / "models").path == tmp_path / "models" / "v2.safetensors"
    # ComfyUI has no folder `restoration` of its own: one that is not there yet is made.
    folder = tmp_path / "new" / "restoration"
    assert convert([v2], folder).path == folder / "v2.safetensors"
    assert convert([v2], tmp_path / "x.sft").path == tmp_path / "x.sft"
    with pytest.raises(CheckpointError, match=r"should end in \.safetensors"):
        convert([v2], tmp_path / "x.pth")


# What is refused


def test_half_a_release_is_refused(tmp_path) -> None:
    torch.save(tiny.pasd_unet(), tmp_path / "unet.bin")
    torch.save(tiny.seesr_control(), tmp_path / "control.bin")
    with pytest.raises(CheckpointError, match=r"unet\.bin is PASD's UNet.*its control network too"):
        convert([tmp_path / "unet.bin"])
    with pytest.raises(CheckpointError, match=r"SeeSR's control network.*give its UNet too"):
        convert([tmp_path / "control.bin"])
    with pytest.raises(CheckpointError, match=r"is not the UNet of SeeSR|is not the control"):
        convert([tmp_path / "unet.bin", tmp_path / "control.bin"])


def test_halves_that_do_not_fit_are_refused(tmp_path) -> None:
    unet = tiny.pasd_unet()
    key = "up_blocks.1.pixel_attentions.0.norm.bias"
    unet[key] = torch.zeros(5)
    torch.save(unet, tmp_path / "unet.bin")
    torch.save(tiny.pasd_control(), tmp_path / "control.bin")
    with pytest.raises(CheckpointError, match=rf"is not whole: 1 of another shape \(unet\.{key}\)"):
        convert([tmp_path / "unet.bin", tmp_path / "control.bin"])


def test_two_files_that_are_no_pair_are_named(v2, tmp_path) -> None:
    torch.save(tiny.dape(), tmp_path / "DAPE.pth")
    with pytest.raises(CheckpointError, match=r"make no pair, for DAPE\.pth is SeeSR's DAPE"):
        convert([tmp_path / "DAPE.pth", v2])


def test_a_folder_without_a_release_or_with_several_is_refused(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no release: expected the folders unet"):
        convert([tmp_path])
    for name in ("a", "b"):
        tiny.write_release(tmp_path / name, tiny.pasd_unet(), tiny.pasd_control())
    with pytest.raises(CheckpointError, match="several releases: name one of"):
        convert([tmp_path])


class Trap:
    """What a hostile pickle would do."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_pickles_that_need_more_than_tensors_are_refused_and_not_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": tiny.diffbir(), "trap": Trap()}, "v2.pth")
    with pytest.raises(CheckpointError) as error:
        convert([Path("v2.pth")])
    for words in ("v2.pth needs more than tensors", "mkdir", "safetensors version", "refused"):
        assert words in str(error.value)
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        Path("old.pth").write_bytes(pickle.dumps(Trap(), protocol))
        with pytest.raises(CheckpointError, match=r"needs more than tensors: it asks for \S+mkdir"):
            convert([Path("old.pth")])
    assert not Path("sprung").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [4, 5])
def test_a_pickle_of_a_newer_protocol_is_not_called_damaged(tmp_path, zipped, protocol) -> None:
    def refused(**more: object) -> str:
        path, contents = tmp_path / "v2.pth", {"state_dict": tiny.diffbir(), **more}
        torch.save(contents, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError) as error:
            convert([path])
        return str(error.value)

    said = refused(size=torch.Size([1]), half=torch.float16, own=torch.nn.Parameter(torch.ones(1)))
    for words in ("a pickle protocol that torch's safe reader", "safetensors", "protocol 2"):
        assert words in said
    assert "damaged" not in said
    assert "it asks for collections.deque." in refused(other=collections.deque())
    assert "it asks for torch.nn.modules.linear.Linear." in refused(other=torch.nn.Linear(1, 1))
    assert "mkdir" in refused(trap=Trap()) and not Path("sprung").exists()


def test_a_pickle_that_does_not_parse_is_damaged(tmp_path) -> None:
    whole = pickle.dumps({"a": list(range(100))}, 4)
    (tmp_path / "old.pth").write_bytes(whole[:-20])
    with zipfile.ZipFile(tmp_path / "new.pth", "w") as archive:
        archive.writestr("new/data.pkl", whole[:-20])
        archive.writestr("new/version", "3")
        archive.writestr("new/byteorder", "little")
    for name in ("old.pth", "new.pth"):
        with pytest.raises(
            CheckpointError, match=rf"{name} is damaged \(its pickle makes no sense"
        ):
            convert([tmp_path / name])


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="There is no file"):
        convert([tmp_path / "none.pth"])
