"""A real JPEG file in memory, for code that may not depend on Pillow."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from torch import Tensor


def jpeg_round_trip(pixels: Tensor, quality: int) -> Tensor:
    """Writes and reads each picture with halved color (4:2:0), the default of OpenCV and cameras.

    pixels: B 3 H W in 0..1, rounded to 8 bits. Returns the same shape, dtype and device.
    """
    from PIL import Image

    images = pixels.mul(255).round().clamp(0, 255).byte().movedim(1, -1).cpu().numpy()
    rows = []
    for image in images:
        with BytesIO() as file:
            Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=2)
            rows.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(rows)).movedim(-1, 1).to(pixels).div(255)
