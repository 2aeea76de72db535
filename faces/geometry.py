"""Faces: bring each to the square the networks were trained on, and put it back.

Written from the mathematics: a similarity transform from five landmarks, bilinear sampling, a
soft square mask. Coordinates are (x, y) with the center of the first pixel at (0, 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..common.images import match_batch
from ..common.resample import resize

FACE_SIZE = 512

TEMPLATE = torch.tensor(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ],
    dtype=torch.float64,
)
"""Where eyes, nose and corners of the mouth lie in an aligned face (FFHQ at 512), the eye and the
corner on the picture's left first. DiffBIR, CodeFormer and GFPGAN align to these points."""

BORDER = (135 / 255, 133 / 255, 132 / 255)
"""RGB around the picture where a face reaches over its edge."""

MIN_EYE_DISTANCE = 5.0
"""In pixels of the picture; smaller faces are left alone, as DiffBIR does."""

BOX_CENTER = (255.5, 271.5)
BOX_SIDE = 360.0
"""A box from hairline to chin in an aligned face: our estimate, for faces given by a mask."""

FEATHER = 0.05
"""DiffBIR's soft edge: a twentieth of the face's side."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom: the edges, so right - left is the width."""


@dataclass(frozen=True)
class Face:
    """One face of a batch."""

    row: int
    """Which picture of the batch."""
    matrix: Tensor
    """3 3 float64: from the picture's pixels to those of the 512 x 512 crop."""


@dataclass(frozen=True)
class FaceInfo:
    """What pasting needs: the pictures' size and where in them the faces were."""

    batch: int
    height: int
    width: int
    faces: tuple[Face, ...]


def check_info(info: object) -> FaceInfo:
    """ValueError unless it came from `crop_faces`."""
    if isinstance(info, FaceInfo):
        return info
    raise ValueError(
        f"`info` is a {type(info).__name__}, not where Crop Faces found the faces. Connect its "
        "output `face_info`."
    )


def _affine(a: float, b: float, x: float, y: float) -> Tensor:
    """(x, y) -> a rotation and scaling (a + bi) and a shift, 3 3 float64."""
    return torch.tensor([[a, -b, x], [b, a, y], [0.0, 0.0, 1.0]], dtype=torch.float64)


def rescaling(x_factor: float, y_factor: float) -> Tensor:
    """Pixel coordinates of a picture to those of the same picture at another size, 3 3."""
    return torch.tensor(
        [
            [x_factor, 0.0, (x_factor - 1) / 2],
            [0.0, y_factor, (y_factor - 1) / 2],
            [0.0, 0.0, 1.0],
        ],
        dtype=torch.float64,
    )


def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """matrix 3 3, points N 2 -> N 2."""
    return points.to(matrix) @ matrix[:2, :2].T + matrix[:2, 2]


def scale_of(matrix: Tensor) -> float:
    """How much a similarity enlarges."""
    return math.hypot(float(matrix[0, 0]), float(matrix[1, 0]))


def least_squares(points: Tensor, target: Tensor) -> Tensor:
    """The similarity (no reflection) that brings points nearest to target; Umeyama 1991 in 2D.

    points, target: N 2 with at least two different points. Returns 3 3 float64.
    """
    points, target = points.double(), target.double()
    center, aim = points.mean(0), target.mean(0)
    p, t = points - center, target - aim
    norm = (p * p).sum()
    a = float((p * t).sum() / norm)
    b = float((p[:, 0] * t[:, 1] - p[:, 1] * t[:, 0]).sum() / norm)
    matrix = _affine(a, b, 0, 0)
    matrix[:2, 2] = aim - matrix[:2, :2] @ center
    return matrix


def similarity(points: Tensor, target: Tensor = TEMPLATE) -> Tensor:
    """Least median of squares (Rousseeuw 1984), so that one landmark gone astray does not tilt the
    face: of the similarities through any two points the one whose median error is least, then
    least squares over the points that agree with it. What OpenCV's estimateAffinePartial2D(LMEDS)
    does with a random choice of pairs; five points have only ten.

    points N 2 and target N 2, N >= 3. Returns 3 3 float64.
    """
    points, target = points.double(), target.double()
    best, errors = math.inf, torch.zeros(len(points))
    for pair in map(list, combinations(range(len(points)), 2)):
        if torch.equal(*points[pair]):
            continue
        found = (apply(least_squares(points[pair], target[pair]), points) - target).square().sum(1)
        if (median := float(found.median())) < best:
            best, errors = median, found
    if best == math.inf:
        raise ValueError("The landmarks of a face all lie on one point.")
    # Rousseeuw's robust standard deviation with its small sample correction.
    deviation = 2.5 * 1.4826 * (1 + 5 / (len(points) - 2)) * math.sqrt(best)
    agree = errors <= max(deviation, 1e-3) ** 2
    return least_squares(points[agree], target[agree])


def from_box(box: Box) -> Tensor:
    """An upright crop around a box from hairline to chin; 3 3."""
    left, top, right, bottom = box
    scale = BOX_SIDE / max(right - left, bottom - top)
    x, y = (left + right - 1) / 2, (top + bottom - 1) / 2
    return _affine(scale, 0.0, BOX_CENTER[0] - scale * x, BOX_CENTER[1] - scale * y)


def whole_picture(height: int, width: int) -> Tensor:
    """The largest centered square: for pictures that are aligned crops already; 3 3."""
    scale = FACE_SIZE / min(height, width)
    middle = (FACE_SIZE - 1) / 2
    return _affine(scale, 0.0, middle - scale * (width - 1) / 2, middle - scale * (height - 1) / 2)


def mask_boxes(mask: Tensor, height: int, width: int) -> list[Box]:
    """The boxes around the connected areas of a mask, from top to bottom.

    mask: H W in 0..1, at any resolution, set where above one half; areas that touch at a corner
    are one. Boxes are in pixels of a height x width picture.
    """
    from scipy import ndimage

    painted = mask.cpu().numpy() > 0.5
    labels = np.zeros(painted.shape, np.int32)
    ndimage.label(painted, structure=np.ones((3, 3)), output=labels)
    x, y = width / mask.shape[1], height / mask.shape[0]
    return [
        (columns.start * x, rows.start * y, columns.stop * x, rows.stop * y)
        for rows, columns in ndimage.find_objects(labels)
    ]


def is_large_enough(matrix: Tensor) -> bool:
    """Whether the eyes lie far enough apart in the picture for a face to be drawn there."""
    eyes = float((TEMPLATE[1] - TEMPLATE[0]).norm())
    return eyes / scale_of(matrix) >= MIN_EYE_DISTANCE


def warp(
    pixels: Tensor, matrix: Tensor, height: int, width: int, fill: Tensor, margin: float = 0.0
) -> Tensor:
    """Moves a picture by a similarity: bilinear, antialiased where it shrinks.

    pixels: C H W; matrix 3 3 from its pixels to those of the result; fill: C, the color outside;
    margin: over how many pixels of the result the picture's edge is continued before it.
    Returns C height width.
    """
    if (scale := scale_of(matrix)) < 1:
        h, w = (max(1, round(side * scale)) for side in pixels.shape[-2:])
        matrix = matrix @ rescaling(pixels.shape[-1] / w, pixels.shape[-2] / h)
        pixels = resize(pixels[None], h, w)[0]
    h, w = pixels.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    source = apply(torch.linalg.inv(matrix), torch.stack([x, y], -1).flatten(0, 1))
    size = torch.tensor([w, h], dtype=torch.float64)
    beyond = 0.5 + margin / scale_of(matrix)
    outside = ((source < -beyond) | (source >= size - 1 + beyond)).any(-1).view(height, width)
    grid = ((2 * source + 1) / size - 1).view(1, height, width, 2).to(pixels)
    moved = F.grid_sample(pixels[None], grid, padding_mode="border", align_corners=False)[0]
    return torch.where(outside.to(pixels.device), fill.to(pixels)[:, None, None], moved)


def crop_faces(pixels: Tensor, matrices: list[list[Tensor]]) -> tuple[Tensor, FaceInfo]:
    """Aligned crops of every face of every picture, and where they belong.

    pixels: B 3 H W in 0..1; matrices: for every picture those of its faces. Faces too small to
    be drawn are left out. Returns N 3 512 512 (N may be 0).
    """
    faces = tuple(
        Face(row, matrix)
        for row, found in enumerate(matrices)
        for matrix in found
        if is_large_enough(matrix)
    )
    border = torch.tensor(BORDER)
    # Two pixels of margin, so that pasting does not draw the border into the picture's edge.
    crops = [warp(pixels[f.row], f.matrix, FACE_SIZE, FACE_SIZE, border, 2) for f in faces]
    empty = pixels.new_zeros(0, 3, FACE_SIZE, FACE_SIZE)
    batch, _, height, width = pixels.shape
    return torch.stack(crops) if crops else empty, FaceInfo(batch, height, width, faces)


def paste_mask(size: int, feather: float = FEATHER) -> Tensor:
    """How much of a pasted face counts: 1 inside, fading to 0 at the edge of the square.

    DiffBIR's: with w = size * feather, the square eroded by w and blurred by a Gaussian of
    2w + 1 taps (sigma as OpenCV derives it from the taps). There in the picture's frame, here in
    the face's, so that the soft edge turns with the face. feather 0: all ones.
    Returns size size float32 in 0..1.
    """
    edge = int(size * feather)
    profile = torch.zeros(size)
    profile[edge : size - edge] = 1
    if edge:
        sigma = 0.3 * (edge - 1) + 0.8
        taps = torch.exp(-torch.arange(-edge, edge + 1).square() / (2 * sigma**2))
        taps = (taps / taps.sum()).view(1, 1, -1)
        profile = F.conv1d(profile.view(1, 1, -1), taps, padding=edge).view(-1)
    return torch.outer(profile, profile)


def check_paste(background: Tensor, faces: Tensor, info: FaceInfo) -> None:
    """That background (B C H W) and faces (N 3 S S) belong to this info, or a ValueError."""
    height, width = background.shape[-2:]
    if len(faces) != len(info.faces):
        raise ValueError(
            f"`faces` has {len(faces)} pictures, but {len(info.faces)} faces were cropped. Connect "
            "the restored crops of the same Crop Faces node, all of them and in their order."
        )
    if faces.shape[-1] != faces.shape[-2]:
        raise ValueError(
            f"`faces` are {faces.shape[-1]}x{faces.shape[-2]} (width x height); aligned faces are "
            "square. Restore the crops without cropping or padding them."
        )
    x_factor, y_factor = width / info.width, height / info.height
    rounding = (1 / info.width + 1 / info.height) * max(1.0, x_factor)
    if abs(x_factor - y_factor) > rounding:
        raise ValueError(
            f"`image` is {width}x{height} (width x height), but the faces come from a picture of "
            f"{info.width}x{info.height}, which has another shape. Connect the same picture at "
            "any size, without padding: after Finish Restoration, for example."
        )


def paste_faces(
    background: Tensor, faces: Tensor, info: FaceInfo, feather: float = FEATHER
) -> Tensor:
    """Puts restored faces back where `crop_faces` found them, the later over the earlier.

    background: B 3 H W, the same pictures at any size (one picture serves all); faces: N 3 S S,
    the crops in their order, at any size. Without faces the background comes back as it is.
    """
    if not info.faces:
        return background
    check_paste(background, faces, info)
    if background.shape[0] < info.batch:
        background = match_batch(background, info.batch, "image")
    result = background.clone()
    height, width = result.shape[-2:]
    size = faces.shape[-1]
    mask = paste_mask(size, feather).to(faces)
    corners = torch.tensor([(0, 0), (size, 0), (0, size), (size, size)]) - 0.5
    to_picture = rescaling(width / info.width, height / info.height)
    to_crop = rescaling(size / FACE_SIZE, size / FACE_SIZE)
    for face, pixels in zip(info.faces, faces, strict=True):
        back = to_picture @ torch.linalg.inv(to_crop @ face.matrix)
        reached = apply(back, corners)
        left, top = (max(0, math.floor(v)) for v in reached.amin(0).tolist())
        right, bottom = (math.ceil(v) + 1 for v in reached.amax(0).tolist())
        right, bottom = min(right, width), min(bottom, height)
        if right <= left or bottom <= top:
            continue
        # Colors times mask, and the mask: blended exactly however the two are interpolated.
        layers = torch.cat([pixels * mask, mask[None]])
        window = _affine(1.0, 0.0, -left, -top) @ back
        moved = warp(layers, window, bottom - top, right - left, layers.new_zeros(4)).to(result)
        under = result[face.row, :, top:bottom, left:right]
        under.mul_(1 - moved[3:]).add_(moved[:3])
    return result
