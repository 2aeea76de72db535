"""The face nodes: the detector's plumbing through OpenCV itself, its errors, and masks."""

from __future__ import annotations

import builtins
import logging
import struct
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.host

YUNET = "face_detection_yunet_2023mar.onnx"


def varint(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def entry(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol buffer message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name: str, shape: tuple[int, ...], values: list[float]) -> bytes:
    raw = struct.pack(f"<{len(values)}f", *values)
    return b"".join(entry(1, d) for d in shape) + entry(2, 1) + entry(8, name) + entry(9, raw)


def ints(name: str, *values: int) -> bytes:
    return entry(1, name) + b"".join(entry(8, v) for v in values) + entry(20, 7)


def node(kind: str, inputs: list[str], output: str, *attributes: bytes) -> bytes:
    named = b"".join(entry(1, name) for name in inputs) + entry(2, output) + entry(4, kind)
    return named + b"".join(entry(5, attribute) for attribute in attributes)


def described(name: str, *shape: int) -> bytes:
    dims = b"".join(entry(1, entry(1, d)) for d in shape)
    return entry(1, name) + entry(2, entry(1, entry(1, 1) + entry(2, dims)))


def blue_finder() -> bytes:
    """An ONNX file with YuNet's inputs and outputs that sees a face wherever the first channel
    (blue, in OpenCV) is bright: at every stride the mean of the channel is the score, the box is
    one stride wide, and the landmarks lie around its middle."""
    nodes, weights, outputs = [], [], []
    offsets = [0.25, 0.25, 0.75, 0.25, 0.5, 0.5, 0.3, 0.75, 0.7, 0.75]
    for stride in (8, 16, 32):
        for head, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            name = f"{head}_{stride}"
            score = head in ("cls", "obj")
            area = stride * stride
            kernel = [0.0] * (width * 3 * area)
            if score:
                kernel[:area] = [1 / 255 / area] * area
            bias = offsets if head == "kps" else [0.0] * width
            weights.append(tensor(f"{name}_w", (width, 3, stride, stride), kernel))
            weights.append(tensor(f"{name}_b", (width,), bias))
            nodes.append(
                node(
                    "Conv",
                    ["input", f"{name}_w", f"{name}_b"],
                    f"{name}_c",
                    ints("strides", stride, stride),
                    ints("kernel_shape", stride, stride),
                )
            )
            nodes.append(node("Transpose", [f"{name}_c"], f"{name}_t", ints("perm", 0, 2, 3, 1)))
            shape = f"{name}_s"
            raw = struct.pack("<3q", 1, -1, width)
            weights.append(entry(1, 3) + entry(2, 7) + entry(8, shape) + entry(9, raw))
            nodes.append(node("Reshape", [f"{name}_t", shape], name))
            outputs.append(described(name, 1, (640 // stride) ** 2, width))
    graph = b"".join(entry(1, each) for each in nodes) + entry(2, "finder")
    graph += b"".join(entry(5, each) for each in weights)
    graph += entry(11, described("input", 1, 3, 640, 640))
    graph += b"".join(entry(12, each) for each in outputs)
    return entry(1, 8) + entry(7, graph) + entry(8, entry(1, "") + entry(2, 13))


@pytest.fixture
def folder(comfy, monkeypatch, tmp_path) -> Path:
    """models/restoration of this test alone."""
    from restoration.host.folders import KIND, register_folders

    register_folders()
    paths, extensions = comfy.folder_paths.folder_names_and_paths[KIND]
    replaced = {
        **comfy.folder_paths.folder_names_and_paths,
        KIND: ([str(tmp_path), *paths], extensions),
    }
    monkeypatch.setattr(comfy.folder_paths, "folder_names_and_paths", replaced)
    return tmp_path


@pytest.fixture
def crop(comfy):
    from restoration.nodes.faces import RestorationFaceCrop

    def run(image, detector="yunet", confidence=0.7, mask=None):
        return RestorationFaceCrop.execute(image, detector, confidence, mask).result

    return run


@pytest.mark.parametrize("size", [(640, 640), (1280, 960), (320, 448)])
def test_landmarks_come_back_in_the_pictures_own_pixels(comfy, folder, size) -> None:
    """Through OpenCV's detector: channel order, resizing and the order of the numbers."""
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install opencv-python-headless")
    from restoration.faces.run import detect_faces

    (folder / YUNET).write_bytes(blue_finder())
    height, width = size
    factor = 640 / min(size)
    side = round(32 / factor)
    y, x = 5 * side, 3 * side  # one cell of stride 32 while searching
    pixels = torch.zeros(2, 3, height, width)
    pixels[1, 2, y : y + side, x : x + side] = 1  # blue
    pixels[1, 0, :side, :side] = 1  # red is not the first channel
    nothing, faces = detect_faces(pixels, 0.9)
    assert nothing == [] and faces
    points = torch.stack(faces)
    inside = (points >= torch.tensor([x - 1, y - 1])) & (points <= torch.tensor([x, y]) + side)
    assert inside.all()
    for left, right in ((0, 1), (3, 4)):
        assert (points[:, left, 0] < points[:, right, 0]).all()
    assert (points[:, 0, 1] < points[:, 2, 1]).all() and (points[:, 2, 1] < points[:, 4, 1]).all()


def test_missing_file_and_missing_library_say_what_to_do(comfy, folder, crop, monkeypatch) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install opencv-python-headless")
    with pytest.raises(FileNotFoundError, match=rf"{YUNET}.*restoration.*https://.*`mask`"):
        crop(torch.rand(1, 64, 64, 3))
    real = builtins.__import__

    def without(name, *rest):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install opencv-python-headless.*`mask`"):
        crop(torch.rand(1, 64, 64, 3))


def test_a_pointer_instead_of_the_file_is_refused(comfy, folder, crop) -> None:
    """What a click on the wrong link of a repository gives."""
    pytest.importorskip("cv2", reason="OpenCV is not installed: pip install opencv-python-headless")
    (folder / YUNET).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ValueError, match=r"56 bytes.*not the YuNet.*232589"):
        crop(torch.rand(1, 64, 64, 3))


def test_masks_need_no_detector(comfy, crop) -> None:
    mask = torch.zeros(2, 100, 90)
    mask[0, 10:40, 10:30] = 1
    mask[1, 10:40, 10:30] = mask[1, 50:90, 40:80] = 1
    faces, info = crop(torch.rand(2, 400, 360, 3), mask=mask)
    assert faces.shape == (3, 512, 512, 3)
    assert [face.row for face in info.faces] == [0, 1, 1]
    one_for_all, info = crop(torch.rand(3, 400, 360, 4), mask=mask[0])
    assert one_for_all.shape == (3, 512, 512, 3) and len(info.faces) == 3


def test_aligned_takes_the_whole_picture(comfy, crop) -> None:
    image = torch.rand(2, 512, 512, 3)
    faces, _ = crop(image, "aligned")
    torch.testing.assert_close(faces, image, atol=2e-4, rtol=0)


def test_no_face_passes_the_very_same_picture_and_asks_for_nothing(comfy, crop, caplog) -> None:
    from restoration.nodes.faces import RestorationFacePaste

    image = torch.rand(1, 64, 48, 4)
    tiny = torch.zeros(1, 64, 48)
    tiny[0, 3:6, 3:6] = 1
    with caplog.at_level(logging.WARNING):
        faces, info = crop(image, mask=tiny)
    assert "no face found" in caplog.text and faces.shape == (1, 512, 512, 3)
    assert RestorationFacePaste.check_lazy_status(image, info, 0.05) == []
    assert RestorationFacePaste.execute(image, None, info, 0.05).result[0] is image


def test_paste_keeps_alpha_and_asks_for_the_crops(comfy, crop) -> None:
    from restoration.nodes.faces import RestorationFacePaste

    image = torch.rand(1, 600, 520, 4)
    mask = torch.zeros(1, 600, 520)
    mask[0, 100:400, 100:400] = 1
    faces, info = crop(image, mask=mask)
    assert RestorationFacePaste.check_lazy_status(image, info, 0.05) == ["faces"]
    assert RestorationFacePaste.check_lazy_status(image, info, 0.05, faces) == []
    (pasted,) = RestorationFacePaste.execute(image, torch.ones_like(faces), info, 0.05).result
    assert pasted.shape == image.shape and (pasted[..., 3] == image[..., 3]).all()
    assert pasted[0, 250, 250, :3].min() > 0.99
    assert (pasted[0, -1, -1] == image[0, -1, -1]).all()


def test_the_folder_keeps_what_the_user_configured(comfy, folder) -> None:
    from restoration.host.folders import find_restoration_file, register_folders

    (folder / "notes.txt").touch()
    (folder / "net.safetensors").touch()
    register_folders()
    names = comfy.folder_paths.get_filename_list("restoration")
    assert "net.safetensors" in names and "notes.txt" not in names
    assert find_restoration_file("net.safetensors") == str(folder / "net.safetensors")
    assert find_restoration_file("other.onnx") is None
    assert len(comfy.folder_paths.get_folder_paths("restoration")) == 2
