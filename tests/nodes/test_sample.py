"""The photo that comes with the pack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.host
def test_the_sample_is_the_demos_photo_whose_license_is_known(comfy) -> None:
    from restoration.nodes.sample import PHOTO, RestorationSamplePhoto

    photo = ROOT / "scripts" / "photo" / "degraded.jpg"
    assert PHOTO.read_bytes() == photo.read_bytes()
    (image,) = RestorationSamplePhoto.execute().result
    assert image.dtype == torch.float32
    assert np.array_equal(image[0].mul(255).round().byte().numpy(), np.asarray(Image.open(photo)))
