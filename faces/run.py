"""Finding faces with YuNet (Wu, Peng, Yu 2023) in OpenCV: an optional library and a small file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy import model_management as mm
from torch import Tensor

from ..common.resample import resize
from ..host.folders import find_restoration_file, restoration_folder
from . import YUNET

INSTEAD = (
    "Or do without a detector: paint over the faces in a mask and connect it to `mask`, one blot a "
    "face."
)
DETECTION_SIDES = (640, 320)
"""Length of the shorter side while searching. DiffBIR's detector wants at least 640; YuNet sees
faces of about 10 to 300 pixels, so a portrait that fills the frame is found at the second try."""
NMS_THRESHOLD = 0.3
TOP_K = 5000


def load_yunet(confidence: float) -> Any:
    """OpenCV's FaceDetectorYN, or an error that says what to install or which file to get."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "Finding faces needs OpenCV, which is not installed. Install it into ComfyUI's Python "
            "with: python -m pip install opencv-python-headless. " + INSTEAD
        ) from error
    path = find_restoration_file(YUNET.name)
    if path is None:
        raise FileNotFoundError(
            f"Finding faces needs the file {YUNET.name} (0.2 MB) in {restoration_folder()}. "
            f"Get it from {YUNET.url} . {INSTEAD}"
        )
    # Read here: OpenCV cannot open a path with other than Latin letters on every system.
    content = np.fromfile(path, np.uint8)
    try:
        return cv2.FaceDetectorYN.create(
            "onnx", content, content[:0], (320, 320), confidence, NMS_THRESHOLD, TOP_K
        )
    except cv2.error as error:
        raise ValueError(
            f"{path} ({len(content)} bytes) is not the YuNet face detector. Delete it and "
            f"get {YUNET.name} (232589 bytes) from {YUNET.url} . {INSTEAD}"
        ) from error


def _search(detector: Any, pixels: Tensor, side: int) -> list[Tensor]:
    """Landmarks (5 2, in pixels of 3 H W) of the faces seen with the shorter side at `side`."""
    height, width = pixels.shape[-2:]
    factor = side / min(height, width)
    h, w = max(1, round(height * factor)), max(1, round(width * factor))
    small = resize(pixels[None], h, w)[0].clamp(0, 1)
    # OpenCV's order of channels is blue, green, red.
    bgr = (small.flip(0) * 255).round().byte().movedim(0, -1).contiguous().numpy()
    detector.setInputSize((w, h))
    _, found = detector.detect(bgr)
    if found is None:
        return []
    # A row is the box (4), the landmarks (10) in the order of the template, and the score.
    points = torch.from_numpy(found[:, 4:14]).double().view(-1, 5, 2)
    ratio = torch.tensor([width / w, height / h], dtype=torch.float64)
    return list((points + 0.5) * ratio - 0.5)


def detect_faces(pixels: Tensor, confidence: float) -> list[list[Tensor]]:
    """Five landmarks of every face of every picture, the surest first.

    pixels: B 3 H W in 0..1. Returns for every picture a list of 5 2 (x, y), which may be empty.
    """
    detector = load_yunet(confidence)
    found = []
    for picture in pixels.cpu():
        mm.throw_exception_if_processing_interrupted()
        searches = (_search(detector, picture, side) for side in DETECTION_SIDES)
        found.append(next((faces for faces in searches if faces), []))
    return found
