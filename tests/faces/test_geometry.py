"""Faces: landmarks to a crop and back, whatever the size, and masks in place of landmarks."""

from __future__ import annotations

import math

import pytest
import torch

from restoration.faces.geometry import (
    BORDER,
    FACE_SIZE,
    TEMPLATE,
    apply,
    check_paste,
    crop_faces,
    from_box,
    is_large_enough,
    least_squares,
    mask_boxes,
    paste_faces,
    paste_mask,
    rescaling,
    scale_of,
    similarity,
    warp,
    whole_picture,
)


def moved(angle: float, scale: float, x: float, y: float) -> torch.Tensor:
    """A similarity from an aligned face into a picture, 3 3."""
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[a, -b, x], [b, a, y], [0, 0, 1]], dtype=torch.float64)


def smooth(height: int, width: int, batch: int = 1) -> torch.Tensor:
    """A picture without fine detail: resampling it twice costs nearly nothing."""
    coarse = torch.rand(batch, 3, 7, 9)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("angle", [0.0, 0.4, -2.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_five_landmarks_give_their_similarity_back(angle: float, scale: float) -> None:
    into_picture = moved(angle, scale, 70.5, -12.0)
    found = similarity(apply(into_picture, TEMPLATE))
    torch.testing.assert_close(found @ into_picture, torch.eye(3).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("stray", range(5))
def test_one_stray_landmark_does_not_tilt_the_face(stray: int) -> None:
    into_picture = moved(0.2, 0.5, 30, 40)
    points = apply(into_picture, TEMPLATE)
    points[stray] += torch.tensor([25.0, -60.0])
    torch.testing.assert_close(
        similarity(points) @ into_picture, torch.eye(3).double(), atol=1e-9, rtol=0
    )
    plain = least_squares(points, TEMPLATE) @ into_picture
    assert (plain - torch.eye(3)).abs().max() > 1  # which is what plain least squares would do


def test_noisy_landmarks_agree_with_opencv() -> None:
    """Its choice of pairs is random, so it may miss the best of the ten: never the other way."""
    cv2 = pytest.importorskip(
        "cv2", reason="OpenCV is not installed: pip install opencv-python-headless"
    )
    same = 0
    for _ in range(50):
        points = apply(moved(0.3, 0.4, 50, 60), TEMPLATE) + torch.randn(5, 2) * 2
        ours = similarity(points)
        theirs = torch.eye(3).double()
        theirs[:2] = torch.from_numpy(
            cv2.estimateAffinePartial2D(points.numpy(), TEMPLATE.numpy(), method=cv2.LMEDS)[0]
        )
        same += bool((ours - theirs).abs().max() < 1e-3 * theirs.abs().max())
    assert same >= 40


def test_no_mirroring() -> None:
    """Landmarks of a face seen in a mirror do not turn into a mirrored crop."""
    points = TEMPLATE * torch.tensor([-1.0, 1.0])
    assert torch.linalg.det(similarity(points)[:2, :2]) > 0


def test_landmarks_on_one_point_are_refused() -> None:
    with pytest.raises(ValueError, match="one point"):
        similarity(torch.full((5, 2), 3.0))


def test_crop_shows_the_landmarks_at_the_template() -> None:
    into_picture = moved(0.35, 0.6, 120, 30)
    picture = torch.zeros(1, 3, 500, 480)
    for x, y in apply(into_picture, TEMPLATE).round().long().tolist():
        picture[..., y - 2 : y + 3, x - 2 : x + 3] = 1
    crops, info = crop_faces(picture, [[similarity(apply(into_picture, TEMPLATE))]])
    assert crops.shape == (1, 3, FACE_SIZE, FACE_SIZE)
    assert (info.batch, info.height, info.width) == (1, 500, 480)
    for x, y in TEMPLATE.round().long().tolist():
        assert crops[0, 0, y, x] > 0.9
    assert crops[0, 0, 256, 50] == 0


def test_outside_of_the_picture_is_the_border_color() -> None:
    crops, _ = crop_faces(torch.zeros(1, 3, 512, 512), [[moved(0, 1, 300, 0)]])
    torch.testing.assert_close(crops[0, :, 100, 100], torch.tensor(BORDER))
    assert (crops[0, :, 100, 400] == 0).all()


@pytest.mark.parametrize("scale", [0.1, 0.24])
def test_shrinking_is_antialiased(scale: float) -> None:
    """A checkerboard of single pixels becomes gray, where plain bilinear shows stripes."""
    side = 1300
    board = (torch.arange(side)[:, None] + torch.arange(side)) % 2
    picture = board.float().expand(3, side, side)
    matrix = moved(0.1, scale, 20, -30)
    small = warp(picture, matrix, 100, 100, torch.zeros(3))[:, 40:60, 40:60]
    assert (small - 0.5).abs().max() < 0.03


def test_rescaling_maps_the_edges_onto_the_edges() -> None:
    edges = torch.tensor([(-0.5, -0.5), (99.5, 49.5)])
    torch.testing.assert_close(
        apply(rescaling(3, 0.5), edges), torch.tensor([(-0.5, -0.5), (299.5, 24.5)]).double()
    )


@pytest.mark.parametrize("size", [(700, 600), (301, 477), (1, 1)])
def test_whole_picture_is_the_largest_centered_square(size: tuple[int, int]) -> None:
    height, width = size
    short = min(size)
    left, top = (width - short) / 2, (height - short) / 2
    corners = torch.tensor([(left, top), (left + short, top + short)]) - 0.5
    expected = torch.tensor([(0.0, 0.0), (512, 512)]).double() - 0.5
    torch.testing.assert_close(apply(whole_picture(height, width), corners), expected)


def test_boxes_of_a_mask_at_another_resolution() -> None:
    mask = torch.zeros(50, 80)
    mask[5:15, 10:20] = 1
    mask[30:32, 40:70] = 0.9
    mask[32, 70] = 1  # touches by a corner
    mask[45, 3] = 0.4  # too faint
    assert mask_boxes(mask, 100, 240) == [(30, 10, 60, 30), (120, 60, 213, 66)]
    assert mask_boxes(torch.zeros(8, 8), 100, 100) == []


def test_box_is_centered_and_fills_seven_tenths() -> None:
    matrix = from_box((100, 200, 150, 260))
    assert scale_of(matrix) == pytest.approx(6)
    center = torch.tensor([[124.5, 229.5]])
    torch.testing.assert_close(apply(matrix, center), torch.tensor([[255.5, 271.5]]).double())


def test_tiny_faces_are_left_alone() -> None:
    assert is_large_enough(from_box((0, 0, 15, 15)))
    assert not is_large_enough(from_box((0, 0, 14, 14)))
    crops, info = crop_faces(torch.rand(1, 3, 64, 64), [[from_box((0, 0, 5, 5))]])
    assert crops.shape == (0, 3, FACE_SIZE, FACE_SIZE) and info.faces == ()


# Back into the picture


def test_paste_mask_is_the_authors_on_an_upright_face() -> None:
    """Spec section 8, item 5, by OpenCV's own erosion and blur of the whole square."""
    cv2 = pytest.importorskip(
        "cv2", reason="OpenCV is not installed: pip install opencv-python-headless"
    )
    import numpy as np

    square = np.zeros((640, 640), np.float32)
    square[64:576, 64:576] = 1
    width = int(square.sum() ** 0.5) // 20
    eroded = cv2.erode(square, np.ones((2 * width + 1, 2 * width + 1), np.uint8))
    soft = cv2.GaussianBlur(eroded, (2 * width + 1, 2 * width + 1), 0)
    ours = paste_mask(512)
    torch.testing.assert_close(ours, torch.from_numpy(soft[64:576, 64:576]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [512, 1024, 333])
def test_paste_mask_is_one_inside_and_fades_to_the_edge(size: int) -> None:
    mask = paste_mask(size)
    assert mask[size // 2, size // 2] == pytest.approx(1, abs=1e-6)
    assert mask[0].max() < 0.01 and mask.min() >= 0 and mask.max() <= 1 + 1e-6
    assert (mask[size // 2, : size // 2].diff() >= -1e-6).all()
    torch.testing.assert_close(mask, mask.flip(0, 1))
    assert (paste_mask(size, 0) == 1).all()


@pytest.mark.parametrize("angle", [0.0, 0.5])
@pytest.mark.parametrize("scale", [0.3, 1.0, 1.6])
@pytest.mark.parametrize("factor", [1, 2, 0.5])
def test_pasting_the_crops_back_changes_nothing(angle: float, scale: float, factor: float) -> None:
    picture = smooth(600, 700)
    into = moved(angle, scale, 100, 20)
    crops, info = crop_faces(picture, [[torch.linalg.inv(into)]])
    size = (int(600 * factor), int(700 * factor))
    background = torch.nn.functional.interpolate(picture, size, mode="bicubic", antialias=True)
    pasted = paste_faces(background, crops, info)
    assert (pasted - background).abs().max() < 0.02
    changed = paste_faces(torch.zeros_like(background), torch.ones_like(crops), info)
    assert changed.max() > 0.99 and changed[..., 0, 0].max() == 0


def test_pasting_at_whole_pixels_is_exact() -> None:
    picture = torch.rand(1, 3, 600, 640)
    crops, info = crop_faces(picture, [[moved(0, 1, -40, -50)]])
    torch.testing.assert_close(crops[0], picture[0, :, 50:562, 40:552], atol=2e-4, rtol=0)
    torch.testing.assert_close(paste_faces(picture, crops, info), picture, atol=2e-4, rtol=0)


def test_hard_edge_replaces_exactly_the_square() -> None:
    background = torch.zeros(1, 3, 600, 640)
    _, info = crop_faces(background, [[moved(0, 1, -40, -50)]])
    pasted = paste_faces(background, torch.ones(1, 3, 512, 512), info, 0)
    expected = torch.zeros_like(background)
    expected[..., 50:562, 40:552] = 1
    torch.testing.assert_close(pasted, expected, atol=1e-4, rtol=0)


def test_later_faces_lie_over_earlier_ones_and_the_input_stays() -> None:
    background = torch.zeros(1, 3, 600, 640)
    _, info = crop_faces(background, [[moved(0, 1, 0, 0), moved(0, 1, -100, 0)]])
    crops = torch.stack([torch.full((3, 512, 512), 0.3), torch.full((3, 512, 512), 0.8)])
    pasted = paste_faces(background, crops, info)
    assert pasted[0, 0, 256, 300] == pytest.approx(0.8, abs=1e-4)
    assert pasted[0, 0, 256, 80] == pytest.approx(0.3, abs=1e-4)
    assert background.max() == 0


def test_faces_reaching_over_the_edge_and_beyond() -> None:
    background = torch.zeros(1, 3, 300, 200)
    matrices = [moved(0, 1, 400, 350), moved(0, 1, -5000, 0)]
    crops, info = crop_faces(background, [matrices])
    pasted = paste_faces(background, torch.ones_like(crops), info)
    assert pasted[0, 0, 20, 20] == pytest.approx(1, abs=1e-4) and pasted[0, 0, 299, 199] == 0


def test_every_face_goes_to_its_own_picture() -> None:
    pictures = torch.zeros(3, 3, 520, 520)
    _, info = crop_faces(pictures, [[moved(0, 1, 0, 0)], [], [moved(0, 1, -8, 0)]])
    assert [face.row for face in info.faces] == [0, 2]
    crops = torch.stack([torch.full((3, 512, 512), 0.25), torch.full((3, 512, 512), 0.5)])
    pasted = paste_faces(pictures, crops, info)
    assert [round(float(row[0, 256, 256]), 3) for row in pasted] == [0.25, 0, 0.5]
    shared = paste_faces(pictures[:1], crops, info)  # one background for all
    torch.testing.assert_close(shared, pasted)


def test_restored_crops_may_be_larger() -> None:
    picture = smooth(600, 640)
    crops, info = crop_faces(picture, [[moved(0.2, 1.2, 30, -100)]])
    twice = torch.nn.functional.interpolate(crops, scale_factor=2, mode="bicubic")
    difference = paste_faces(picture, twice, info) - paste_faces(picture, crops, info)
    assert difference.abs().max() < 0.02


def test_no_face_gives_the_very_same_background() -> None:
    picture = torch.rand(2, 3, 40, 30)
    crops, info = crop_faces(picture, [[], []])
    assert paste_faces(picture, crops, info) is picture


@pytest.mark.parametrize(
    ("size", "faces", "words"),
    [
        ((600, 640), (2, 3, 512, 512), "2 pictures, but 1 faces"),
        ((600, 640), (1, 3, 512, 500), "500x512"),
        ((600, 600), (1, 3, 512, 512), "600x600.*640x600.*padding"),
    ],
)
def test_what_does_not_belong_together_is_refused(size, faces, words: str) -> None:
    _, info = crop_faces(torch.rand(1, 3, 600, 640), [[moved(0, 1, 0, 0)]])
    with pytest.raises(ValueError, match=words):
        check_paste(torch.rand(1, 3, *size), torch.rand(faces), info)


def test_truncated_sizes_still_belong_together() -> None:
    _, info = crop_faces(torch.rand(1, 3, 333, 517), [[moved(0, 1, 0, 0)]])
    for factor in (0.37, 1.5, 2.13, 4):
        size = (int(333 * factor), int(517 * factor))
        check_paste(torch.rand(1, 3, *size), torch.rand(1, 3, 512, 512), info)
