"""Faces: find them, cut them out aligned, put them back."""

from ..common.bases import HF
from ..common.method import Method, WeightFile

YUNET = WeightFile(
    "face_detection_yunet_2023mar.onnx",
    f"{HF}/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2023mar.onnx",
    "restoration",
    230_000,
    "MIT",
)
METHOD = Method(name="faces", title="faces", files=(YUNET,))
