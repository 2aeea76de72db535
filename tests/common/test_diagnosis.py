"""Files that are no weights: each is told in a sentence what it is and what to do."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from restoration.common.diagnosis import weights_problem
from restoration.common.state_dict import CheckpointError
from restoration.tests.tools.weights import tiny
from restoration.tools.weights.convert import convert
from restoration.tools.weights.files import read_weights

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 1452808349\n"
)
PAGE = b"\n<!DOCTYPE html>\n<html><title>v2.pth at main</title></html>"
SAFETENSORS = save({"a": torch.zeros(100), "b": torch.ones(7)})


def pickled(contents: object, **options: bool) -> bytes:
    data = io.BytesIO()
    torch.save(contents, data, **options)
    return data.getvalue()


def zipped() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("pasd/unet/diffusion_pytorch_model.bin", b"x")
    return data.getvalue()


def tarred() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.add(__file__, "a.pth")
    return data.getvalue()


def program() -> bytes:
    data = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), data)
    return data.getvalue()


PICKLE = pickled({"a": torch.zeros(100)})
OLD_PICKLE = pickled({"a": torch.zeros(100)}, _use_new_zipfile_serialization=False)
CASES = {
    "empty.pth": (b"", "is empty: download it again"),
    "empty.safetensors": (b"", "is empty: download it again"),
    "pointer.pth": (POINTER, "a Git LFS pointer that stands for 1,385.5 MiB. Run git lfs pull"),
    "pointer.safetensors": (POINTER, "a Git LFS pointer"),
    "page.pth": (PAGE, "a web page. Use the download link"),
    "page.safetensors": (b"\xef\xbb\xbf" + PAGE, "a web page"),
    "commented.pth": (b"<!-- saved -->\n<html>", "a web page"),
    "refusal.pth": (b"Invalid username or password.", "text (Invalid username or password.)"),
    "json.safetensors": (b'{"error":"Entry not found"}', "log in or accept the terms"),
    "letters.pth": ("Zugriff nicht erlaubt: ü".encode() * 30, "it is text (Zugriff nicht"),
    "zip.pth": (zipped(), "is a zip archive (pasd/unet/diffusion_pytorch_model.bin): unpack it"),
    "tar.pth": (tarred(), "a tar archive. Unpack it"),
    "gzip.pth": (b"\x1f\x8b\x08" + b"\0" * 60, "a gzip archive"),
    "7z.ckpt": (b"7z\xbc\xaf\x27\x1c" + b"\0" * 60, "a 7z archive"),
    "program.pt": (program(), "is a TorchScript program, expected only weights"),
    "quantized.pth": (b"GGUF\x03" + b"\0" * 60, "is a GGUF file"),
    "network.onnx": (b"\x08\x07\x12\x07" + b"\0" * 60, "is an ONNX network: expected weights in"),
    "v2.pth.crdownload": (PICKLE[:100], "has not ended"),
    "picture.pth": (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "it begins with the bytes 89 50 4e 47"),
    "zeros.pth": (b"\0" * 600, "is no file of weights: it begins with the bytes 00 00"),
    "zeros.safetensors": (b"\0" * 600, "is no safetensors file, or its beginning is damaged"),
    "cut.pth": (PICKLE[:-100], "bytes, its end is missing: compare its size"),
    "cut.safetensors": (
        SAFETENSORS[:-10],
        f"it has {len(SAFETENSORS) - 10} bytes, its header says",
    ),
    "longer.safetensors": (SAFETENSORS + b"\0", "is not whole"),
    "header.safetensors": (SAFETENSORS[:20], "is cut off after 20 bytes, in the list"),
    "named.pth": (SAFETENSORS, "rename it to named.safetensors"),
    "named.safetensors": (PICKLE, "is a PyTorch pickle under a wrong name"),
    "old.safetensors": (OLD_PICKLE, "rename it to old.pth"),
    "old_cut.pth": (OLD_PICKLE[:-8], "it lists 408 bytes of numbers and has 400 bytes. Download"),
    "nonsense.pth": (b"\x80\x02\xff\xff", "is damaged (its pickle makes no sense)"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_file_of_weights_is_explained(tmp_path, name) -> None:
    data, words = CASES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        convert([tmp_path / name])
    said = str(error.value)
    assert said.startswith(f"{name} ") and words in said and said.endswith(".")
    # That advice is for pickles that ask for something. Nobody is to run a web page.
    assert "weights_only=False" not in said and "\n" not in said
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("data", [SAFETENSORS, PICKLE, OLD_PICKLE])
def test_whole_files_have_no_problem(tmp_path, data) -> None:
    path = tmp_path / ("a.safetensors" if data is SAFETENSORS else "a.pth")
    path.write_bytes(data)
    assert not weights_problem(path)
    assert torch.equal(read_weights(path).contents["a"], torch.zeros(100))


def test_a_header_whose_length_begins_like_a_pickle_is_no_pickle(tmp_path) -> None:
    """0x80 begins both: a pickle, and a safetensors header of 128 bytes."""
    path = tmp_path / "a.safetensors"
    for size in range(1, 128):
        path.write_bytes(save({"k" * size: torch.zeros(9)}))
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80 and not weights_problem(path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "its header says" in weights_problem(path)


def test_a_path_that_leads_nowhere_is_named(tmp_path) -> None:
    assert weights_problem(tmp_path / "a.pth") == (
        f"There is no file {tmp_path / 'a.pth'}: correct the name."
    )
    lost = tmp_path / "no" / "such" / "a.pth"
    assert f"of its folders only {tmp_path} exists" in weights_problem(lost)
    link = tmp_path / "link.pth"
    link.symlink_to(tmp_path / "gone.pth")
    assert f"is a link to {tmp_path / 'gone.pth'}, which is not there" in weights_problem(link)
    assert "is no file" in weights_problem(tmp_path)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(PICKLE)

    def refused(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)
    assert weights_problem(path) == (
        f"{path} cannot be opened: Permission denied. Let this user read it."
    )


def test_cut_off_conversions_are_explained(tmp_path, monkeypatch) -> None:
    tiny.use_tiny_sizes(monkeypatch)
    torch.save(tiny.diffbir(), tmp_path / "v2.pth")
    whole = convert([tmp_path / "v2.pth"]).path
    for path in (tmp_path / "v2.pth", whole):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(CheckpointError, match=r"(is cut off|is not whole).*ownload it again"):
            convert([path], tmp_path / "out.safetensors")


def test_many_comments_before_a_page_take_no_time(tmp_path: Path) -> None:
    """A pattern that tries every way to share them out would take years."""
    path = tmp_path / "v2.pth"
    path.write_bytes(b"<!---->" * 73)
    assert "holds no weights: it is text" in weights_problem(path)
    path.write_bytes(b"<!-- a --> \n<!-- b --><html><title>x</title>")
    assert "it is a web page" in weights_problem(path)


@pytest.mark.parametrize("length", [0x8B1F, 0x685A42, 0x4B50], ids=hex)
def test_the_length_of_a_safetensors_header_is_no_archives_mark(tmp_path: Path, length) -> None:
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(length)
    path = tmp_path / "a.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header + b"x")
    assert weights_problem(path) == ""
    assert set(load_file(path)) == {"a"}


def test_a_path_of_which_nothing_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Windows drive that is not plugged in."""
    monkeypatch.setattr(Path, "is_dir", lambda self: False)
    assert "of its folders only none exists" in weights_problem(Path("/nowhere/a.pth"))
