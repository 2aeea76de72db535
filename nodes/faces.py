"""Faces: cut them out aligned, restore them like any picture, put them back."""

from __future__ import annotations

import logging
from typing import Literal

import torch
from comfy_api.latest import io
from torch import Tensor

from ..common.images import from_image, from_mask, match_batch, to_image
from ..faces.geometry import (
    BORDER,
    FACE_SIZE,
    FaceInfo,
    check_info,
    crop_faces,
    from_box,
    mask_boxes,
    paste_faces,
    similarity,
    whole_picture,
)
from ..faces.run import detect_faces
from ..host.schema import CheckedNode, schema

log = logging.getLogger(__name__)

FaceInfoType = io.Custom("FACE_INFO")
Detector = Literal["yunet", "aligned"]


class RestorationFaceCrop(CheckedNode):
    """Every face of every picture as an aligned crop of 512 x 512."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationFaceCrop",
            display_name="Crop Faces",
            category="restoration/face",
            description="Cuts out every face, upright and at the size that face restoration was "
            "trained on (512x512, FFHQ alignment). Restore the crops like any picture and put "
            "them back with Paste Faces. Without a face in the picture, what lies between the two "
            "is skipped and the picture passes through.",
            search_aliases=["face restore", "face detailer", "align face", "gfpgan", "codeformer"],
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The picture with the faces, already enlarged to the final size for "
                    "the sharpest crops. A batch gives the faces of all its pictures.",
                ),
                io.Combo.Input(
                    "detector",
                    options=["yunet", "aligned"],
                    default="yunet",
                    tooltip="yunet: finds faces and turns them upright by eyes, nose and mouth "
                    "(needs OpenCV and a file of 0.2 MB, see the help page). "
                    "aligned: the picture is one aligned face already. "
                    "A painted mask takes the place of both.",
                ),
                io.Float.Input(
                    "confidence",
                    default=0.7,
                    min=0.05,
                    max=1.0,
                    step=0.01,
                    tooltip="How sure yunet must be. Lower finds more faces in bad photos and more "
                    "things that are none; 0.9 takes only clear ones. Only for yunet, and not where a "
                    "mask is painted.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Faces given by hand: one connected area each, from hairline to chin. "
                    "Crops are then upright squares. An empty mask leaves it to the detector.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="faces",
                    tooltip="The crops, all in one batch of 512x512. One gray picture when there "
                    "is no face.",
                ),
                FaceInfoType.Output(
                    display_name="face_info", tooltip="For Paste Faces: where the crops come from."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        detector: Detector,
        confidence: float,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        pixels, _ = from_image(image)
        batch, _, height, width = pixels.shape
        painted = None if mask is None else from_mask(mask)
        if painted is not None and bool((painted > 0.5).any()):
            matrices = [
                [from_box(box) for box in mask_boxes(row, height, width)]
                for row in match_batch(painted, batch, "mask")
            ]
        elif detector == "aligned":
            matrices = [[whole_picture(height, width)]] * batch
        else:
            found = detect_faces(pixels, confidence)
            matrices = [[similarity(points) for points in faces] for faces in found]
        crops, info = crop_faces(pixels, matrices)
        if not info.faces:
            log.warning(
                "Crop Faces: no face found in %d picture(s); they pass through unchanged. Lower "
                "`confidence`, enlarge the picture, or paint the faces in a mask.",
                batch,
            )
            crops = torch.tensor(BORDER).view(1, 3, 1, 1).expand(1, 3, FACE_SIZE, FACE_SIZE)
        return io.NodeOutput(to_image(crops), info)


class RestorationFacePaste(CheckedNode):
    """Restored crops back into the picture, with a soft edge."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="RestorationFacePaste",
            display_name="Paste Faces",
            category="restoration/face",
            description="Puts restored face crops back to where Crop Faces found them, turned and "
            "scaled as they were, with a soft edge. Without a face the picture passes through "
            "and the crops are not even computed.",
            search_aliases=["face restore", "paste back", "composite face"],
            advanced=("feather",),
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The picture to paste into: the one that was cropped from, or its "
                    "restored version at any size. Alpha is kept.",
                ),
                io.Image.Input(
                    "faces",
                    lazy=True,
                    tooltip="The restored crops, all of them and in their order. Any square size.",
                ),
                FaceInfoType.Input("info", display_name="face_info", tooltip="From Crop Faces."),
                io.Float.Input(
                    "feather",
                    default=0.05,
                    min=0.0,
                    max=0.25,
                    step=0.01,
                    tooltip="Width of the soft edge, relative to the crop. 0.05 is DiffBIR's; more "
                    "blends further into the face, 0 pastes a hard square.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The picture with the restored faces.")],
        )

    @classmethod
    def check_lazy_status(
        cls, image: Tensor, info: FaceInfo, feather: float, faces: Tensor | None = None
    ) -> list[str]:
        """Asks for the crops only where there are faces: no sampler runs for none."""
        return ["faces"] if check_info(info).faces and faces is None else []

    @classmethod
    def execute(
        cls, image: Tensor, faces: Tensor | None, info: FaceInfo, feather: float
    ) -> io.NodeOutput:
        if faces is None or not check_info(info).faces:
            return io.NodeOutput(image)
        pixels, alpha = from_image(image)
        crops, _ = from_image(faces, "faces")
        result = paste_faces(pixels, crops.to(pixels.device), info, feather)
        if alpha is not None:
            alpha = match_batch(alpha, len(result), "image")
        return io.NodeOutput(to_image(result, alpha))


NODES: list[type[io.ComfyNode]] = [RestorationFaceCrop, RestorationFacePaste]
